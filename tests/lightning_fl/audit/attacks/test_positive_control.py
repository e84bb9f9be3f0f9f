from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules import ChestPhantoms
from lightning_fl.audit import TaskGradient, idlg, image_scores
from lightning_fl.audit.attacks.floor import flat_guess
from lightning_fl.audit.attacks.image_scores import identifiability
from tests.folders import LGG
from tests.lightning_fl.audit.victims import lenet_classifier

SIZE = 32


def _come_back(images: Tensor, labels: Sequence[int], trials: Sequence[int]) -> None:
    """Attack some images of a set, and find them better than 20 dB and the nearest of all."""
    psnr, grey = [], []
    for trial in trials:
        truth, label = images[trial : trial + 1], torch.tensor([labels[trial]])
        gradient = TaskGradient(lenet_classifier(trial, size=SIZE))
        seen = gradient({"image": truth, "label": label})
        found = idlg(gradient, seen, (1, 1, SIZE, SIZE), iterations=150, restarts=1, seed=trial)
        assert torch.equal(found.target, label)
        assert identifiability(found.images, [trial], images) == 1
        psnr.append(image_scores(found.images, truth).psnr)
        grey.append(image_scores(flat_guess(truth.shape), truth).psnr)
    assert np.mean(psnr) >= 20
    assert np.mean(grey) < 15  # a guess that knows nothing does not reach it


def test_phantoms_come_back_from_the_gradient_of_one_sample(tmp_path: Path) -> None:
    data = ChestPhantoms(
        sites=1, patients=4, slices=8, size=SIZE, cache_dir=str(tmp_path)
    ).for_site("A", 0)
    dataset = data.dataset("A", data.patients("A"), augment=False)
    samples = [dataset[number] for number in range(4 * 8)]
    labels = [int(sample["mask"].any()) for sample in samples]
    images = torch.stack([sample["image"] for sample in samples])
    trials = [labels.index(1), labels.index(0)]
    _come_back(images, labels, trials)


@pytest.mark.skipif(not LGG.is_dir(), reason="needs the brain MRI of configs/lgg_mri.yaml")
def test_brain_images_come_back_from_the_gradient_of_one_sample() -> None:
    files = sorted((LGG / "CS" / "images").glob("*.png"))[:10]
    images, labels = [], []
    for file in files:
        with Image.open(file) as image, Image.open(LGG / "CS" / "masks" / file.name) as mask:
            small = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            images.append(torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)[None])
            labels.append(int(np.asarray(mask).any()))
    _come_back(torch.stack(images), labels, [labels.index(1), labels.index(0)])
