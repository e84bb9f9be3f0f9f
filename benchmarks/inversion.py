"""Images from the gradient of one sample: how near attacks come, by data, size, net and mode.

Each trial draws an image and first weights anew, takes the plain gradient of one step, and attacks
it. A small net with sigmoids as in the papers (iDLG: the label is read first), a small segmentation
net with sigmoids, and one with BatchNorm, their masks known or hidden. Brain MRI is
tried where its folder is named; it is the one of configs/lgg_mri.yaml. Prints a Markdown table and
writes it as CSV.

    OMP_NUM_THREADS=1 python -m benchmarks.inversion --lgg ROOT
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.printing import Row, command_line, save, say_table
from benchmarks.quickstart_net import quickstart_net
from datamodules import ChestPhantoms
from lightning_fl.audit import (
    HiddenMask,
    Known,
    Matching,
    Reconstruction,
    TaskGradient,
    dlg,
    idlg,
    image_scores,
    invert_gradient,
)
from lightning_fl.audit.attacks.floor import flat_guess, random_guess
from lightning_fl.seeds import derive_seed, seed_all
from models import Classification, Segmentation
from models.lenet import LeNet

WIDTHS = {32: 12, 64: 24}
"""Channels of LeNet by size of the image; the wider net has enough gradient for the pixels."""


class LabelledImage(NamedTuple):
    """An image (1, 1, H, W) and its mask (1, H, W); the label is 1 where the mask has anything."""

    image: Tensor
    mask: Tensor

    @property
    def label(self) -> Tensor:
        """The image's class, int64 (1,)."""
        return self.mask.any().long().reshape(1)


class Scored(NamedTuple):
    """One trial: scores, and what of the label or the mask came out; NaN where it was known."""

    psnr: float
    guess: float
    ssim: float
    label_right: float
    dice: float
    seconds: float


Trial = Callable[[LabelledImage, int], Scored]


@dataclass(frozen=True)
class AttackCase:
    """A row of the table.

    Attributes:
        data: where the images are from.
        size: of them, in pixels.
        net: what is attacked.
        attack: in words.
        examples: one for each trial.
        trial: the attack on one example, with a seed.
    """

    data: str
    size: int
    net: str
    attack: str
    examples: list[LabelledImage]
    trial: Trial

    def row(self, seed: int) -> Row:
        """Run all trials."""
        scores = pd.DataFrame(
            self.trial(example, derive_seed(seed, self.net, number))
            for number, example in enumerate(self.examples)
        )
        mean, spread = scores.mean(), scores.psnr.std()
        return {
            "data": self.data,
            "px": self.size,
            "net": self.net,
            "attack": self.attack,
            "trials": len(scores),
            "PSNR in dB": f"{mean.psnr:.1f}" + (f" ± {spread:.1f}" if len(scores) > 1 else ""),
            "of a guess": f"{mean.guess:.1f}",
            "SSIM": f"{mean.ssim:.2f}",
            "label right in %": _or_nothing(100 * mean.label_right, ".0f"),
            "mask Dice": _or_nothing(mean.dice, ".2f"),
            "seconds each": f"{mean.seconds:.1f}",
        }


def lenet_trial(example: LabelledImage, seed: int, *, iterations: int) -> Scored:
    """Read the label, then match the gradient, on LeNet as the papers start it."""
    size = example.image.shape[-1]
    seed_all(seed)
    gradient = TaskGradient(Classification(LeNet(1, 2, size, WIDTHS.get(size, 12)), classes=2))
    seen = gradient({"image": example.image, "label": example.label})
    guess = idlg(gradient, seen, (1, 1, size, size), iterations=iterations, restarts=2, seed=seed)
    return _scored(example, guess, label_right=float(torch.equal(guess.target, example.label)))


def smooth_trial(example: LabelledImage, seed: int, *, hidden: bool, iterations: int) -> Scored:
    """Match the gradient of a small segmentation net with sigmoids, by L-BFGS."""
    seed_all(seed)
    gradient = TaskGradient(_smooth())
    return _mask_trial(example, gradient, seed, hidden=hidden, iterations=iterations, lbfgs=True)


def unet_trial(
    example: LabelledImage, seed: int, *, training: bool, hidden: bool, iterations: int, lbfgs: bool
) -> Scored:
    """Match the gradient of a segmentation net with BatchNorm."""
    seed_all(seed)
    task = Segmentation(quickstart_net(), foreground_prior=0.1)
    gradient = TaskGradient(task, training=training)
    return _mask_trial(example, gradient, seed, hidden=hidden, iterations=iterations, lbfgs=lbfgs)


def _mask_trial(
    example: LabelledImage,
    gradient: TaskGradient,
    seed: int,
    *,
    hidden: bool,
    iterations: int,
    lbfgs: bool,
) -> Scored:
    size = example.image.shape[-1]
    seen = gradient({"image": example.image, "mask": example.mask})
    target = HiddenMask((size, size)) if hidden else Known("mask", example.mask)
    problem = Matching(gradient, seen, (1, 1, size, size), target)
    attack = dlg if lbfgs else invert_gradient
    guess = attack(problem, iterations=iterations, restarts=1, seed=seed)
    return _scored(example, guess, dice=_dice(guess.target, example.mask) if hidden else np.nan)


def _smooth() -> pl.LightningModule:
    """Return the control of attacks on masks: as easy as LeNet, started as the papers do."""
    net = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(16, 16, 5, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(16, 4, 1),
        nn.PixelShuffle(2),
    )
    for parameter in net.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    return Segmentation(net)


def phantoms(size: int, count: int) -> list[LabelledImage]:
    """Return chest phantoms of three hospitals, with and without an infection in turn."""
    data = ChestPhantoms(sites=3, patients=[4], slices=8, size=size)
    samples = []
    for site in data.site_names():
        bound = data.for_site(site, 0)
        dataset = bound.dataset(site, bound.patients(site), augment=False)
        samples += [dataset[number] for number in range(4 * 8)]
    order = np.random.default_rng(1).permutation(len(samples))
    shuffled = (samples[number] for number in order)
    return _in_turn((LabelledImage(s["image"][None], s["mask"][None]) for s in shuffled), count)


def brain_crops(root: Path, size: int, count: int) -> list[LabelledImage]:
    """Return windows of brain MRI at full resolution, with and without tumour in turn.

    A window lies around the middle of the tumour, or of the image where there is none. `root` has
    a folder for each hospital, with images/ and masks/ of 8-bit grey PNG.
    """
    files = sorted(root.glob("*/images/*.png"))
    order = np.random.default_rng(0).permutation(len(files))
    return _in_turn((_crop(files[number], size) for number in order), count)


def _crop(file: Path, size: int) -> LabelledImage:
    with Image.open(file) as image, Image.open(file.parents[1] / "masks" / file.name) as mask:
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)
        tumour = torch.from_numpy(np.asarray(mask) > 0).long()
    places = tumour.nonzero().double()
    middle = places.mean(dim=0) if len(places) else torch.tensor(pixels.shape) / 2
    ends = torch.tensor(pixels.shape) - size
    top, left = (middle - size / 2).round().long().clamp(min=torch.zeros(2).long(), max=ends)
    window = (slice(int(top), int(top) + size), slice(int(left), int(left) + size))
    return LabelledImage(pixels[window][None, None], tumour[window][None])


def _in_turn(examples: Iterable[LabelledImage], count: int) -> list[LabelledImage]:
    """Return the first ones with something in the mask and with nothing there, in turn."""
    each = -(-count // 2)
    kinds: dict[bool, list[LabelledImage]] = {True: [], False: []}
    for example in examples:
        kinds[bool(example.label)].append(example)
        if min(map(len, kinds.values())) >= each:
            break
    pairs = zip(kinds[True], kinds[False], strict=False)
    return [example for pair in pairs for example in pair][:count]


def _scored(
    example: LabelledImage,
    guess: Reconstruction,
    *,
    label_right: float = np.nan,
    dice: float = np.nan,
) -> Scored:
    scores = image_scores(guess.images, example.image)
    shape = tuple(example.image.shape)
    blind = (flat_guess(shape), random_guess(shape, seed=0))
    floor = max(image_scores(images, example.image).psnr for images in blind)
    return Scored(scores.psnr, floor, scores.ssim, label_right, dice, guess.seconds)


def _dice(guess: Tensor, truth: Tensor) -> float:
    return float(2 * (guess * truth).sum() / (guess.sum() + truth.sum()).clamp(min=1))


def _or_nothing(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def lenet_cases(lgg: Path | None, trials: int, iterations: int) -> Iterator[AttackCase]:
    """Attack small nets with sigmoids."""
    trial = partial(lenet_trial, iterations=iterations)
    sources = {"phantoms": phantoms} | ({"brain MRI": partial(brain_crops, lgg)} if lgg else {})
    for name, draw in sources.items():
        for size in WIDTHS:
            words = f"iDLG, {iterations} iterations"
            yield AttackCase(name, size, "LeNet", words, draw(size, trials), trial)


def smooth_cases(trials: int, iterations: int) -> Iterator[AttackCase]:
    """Attack a small segmentation net with sigmoids, on slices with an infection."""
    examples = [example for example in phantoms(32, 2 * trials) if example.label]
    for hidden in (False, True):
        trial = partial(smooth_trial, hidden=hidden, iterations=iterations)
        words = f"L-BFGS, {iterations} iterations, mask {'hidden' if hidden else 'known'}"
        yield AttackCase("phantoms", 32, "small, sigmoids", words, examples, trial)


def unet_cases(trials: int, iterations: int) -> Iterator[AttackCase]:
    """Attack a segmentation net with BatchNorm, on slices with an infection."""
    examples = [example for example in phantoms(64, 2 * trials) if example.label]
    for lbfgs in (False, True):
        steps = iterations // 2 if lbfgs else iterations
        name = (
            f"L-BFGS, {steps} iterations" if lbfgs else f"Inverting Gradients, {steps} iterations"
        )
        for training in (True, False):
            for hidden in (False, True):
                attack = partial(
                    unet_trial, training=training, hidden=hidden, iterations=steps, lbfgs=lbfgs
                )
                mode = "train" if training else "eval"
                words = f"{name}, mask {'hidden' if hidden else 'known'}"
                yield AttackCase(
                    "phantoms", 64, f"U-Net, BatchNorm, {mode} mode", words, examples, attack
                )


def main() -> None:
    """Attack, and write the table."""
    parser = command_line(__doc__, "inversion")
    parser.add_argument("--lgg", type=Path, help="folder of the brain MRI; left out without it")
    parser.add_argument("--trials", type=int, default=12, help="with LeNet")
    parser.add_argument("--iterations", type=int, default=600, help="of iDLG")
    parser.add_argument("--unet_trials", type=int, default=3)
    parser.add_argument("--unet_iterations", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cases = (
        *lenet_cases(options.lgg, options.trials, options.iterations),
        *smooth_cases(options.unet_trials, options.iterations),
        *unet_cases(options.unet_trials, options.unet_iterations),
    )
    save(options.csv, say_table(case.row(options.seed) for case in cases))


if __name__ == "__main__":
    main()
