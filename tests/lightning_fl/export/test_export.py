"""An exported network gives what the run's own model gives."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import onnxruntime
import pytest
import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from lightning_fl.errors import ConfigError
from lightning_fl.export import export_model
from lightning_fl.export.__main__ import main
from lightning_fl.personalisation.mirror import mirrored
from lightning_fl.predict.finished_run import FinishedRun, load
from lightning_fl.run.config import read_settings
from models import Segmentation
from tests.folders import CONFIGS
from tests.toy import SMALL_NET

SHAPE = (1, 32, 32)
PREPROCESSING = {
    "class_path": "datamodules.rad_chest.preprocessing.RadPreprocessing",
    "init_args": {"size": 32, "level": -600.0, "width": 1500.0, "thickness": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The files of a run, which was not trained: A has a plain model, B a mirrored one."""
    folder = tmp_path_factory.mktemp("run")
    quickstart = ["--config", str(CONFIGS / "quickstart.yaml"), "--output", str(folder)]
    read_settings([*quickstart, *SMALL_NET]).save()
    run = FinishedRun(folder)
    models = {"global": run.template, "A": run.fresh_task(1), "B": mirrored(run.fresh_task(2))}
    for number, (name, model) in enumerate(models.items()):
        torch.manual_seed(number)
        for entry in model.parameters():  # first weights give almost equal logits everywhere
            nn.init.normal_(entry, std=0.3)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_mean"):
                nn.init.normal_(buffer, std=0.1)
        state = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
        (folder / "models").mkdir(exist_ok=True)
        safetensors.torch.save_file(state, folder / "models" / f"{name}.safetensors")
    (folder / "preprocessing.yaml").write_text(yaml.safe_dump(dict.fromkeys("AB", PREPROCESSING)))
    return run


def by_state_dict(path: Path, images: Tensor, run: FinishedRun) -> Tensor:
    net = run.template.get_submodule("net").eval()
    net.load_state_dict(safetensors.torch.load_file(path))
    return net(images)  # type: ignore[no-any-return]


def by_torch_export(path: Path, images: Tensor, run: FinishedRun) -> Tensor:
    return torch.export.load(path).module()(images)  # type: ignore[no-any-return]


def by_onnx(path: Path, images: Tensor, run: FinishedRun) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"image": images.numpy()})[0])


def by_bundle(path: Path, images: Tensor, run: FinishedRun) -> Tensor:
    parser = monai.bundle.ConfigParser()
    parser.read_config(path / "configs" / "inference.json")
    parser["bundle_root"] = str(path)
    parser.get_parsed_content("initialize")
    inferer = parser.get_parsed_content("inferer")
    return inferer(images, parser.get_parsed_content("network"))  # type: ignore[no-any-return]


READERS: dict[str, Callable[[Path, Tensor, FinishedRun], Tensor]] = {
    "state_dict": by_state_dict,
    "torch_export": by_torch_export,
    "onnx": by_onnx,
    "monai_bundle": by_bundle,
}


@pytest.mark.parametrize(
    ("to", "site"), [(to, "A") for to in READERS] + [("torch_export", "B"), ("onnx", None)]
)
def test_the_exported_net_gives_the_logits_of_the_run(
    run: FinishedRun, tmp_path: Path, to: str, site: str | None
) -> None:
    path = export_model(run, site, to=to, shape=SHAPE, output=tmp_path / "net")
    images = torch.randn(3, *SHAPE)
    with torch.no_grad():
        expected = run.model(site)(images)
        logits = READERS[to](path, images, run)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(logits > 0, expected > 0)
    assert 0 < (expected > 0).float().mean() < 1


def test_the_preprocessing_lies_beside_the_net(run: FinishedRun) -> None:
    path = export_model(run, "A", to="state_dict")
    assert path == run.folder / "export" / "A.safetensors"
    described = json.loads(path.with_suffix(".json").read_text())
    assert described["preprocessing"] == PREPROCESSING
    assert described["output"] == {
        "values": "logits",
        "channels": 1,
        "probabilities": "sigmoid",
        "threshold": 0.5,
    }


def test_the_metadata_of_a_bundle_are_those_of_its_net(run: FinishedRun, tmp_path: Path) -> None:
    path = export_model(run, "A", to="monai_bundle", shape=SHAPE, output=tmp_path / "A")
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        meta_file=str(path / "configs" / "metadata.json"),
        config_file=str(path / "configs" / "inference.json"),
        device="cpu",
    )
    assert json.loads((path / "configs" / "preprocessing.json").read_text())["preprocessing"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--site", "A", "--to", "onnx"], "--shape 1 96 96"),
        (["--site", "A", "--to", "monai_bundle"], "--shape 1 96 96"),
        (["--site", "A", "--to", "torch_export", "--shape", "3", "32", "32"], "cannot take images"),
        (["--site", "A", "--to", "onnx", "--shape", "32"], "channels and size"),
        (["--site", "B", "--to", "state_dict"], "mean of several outputs .*torch_export or onnx"),
        (["--site", "C", "--to", "state_dict"], "no personal model of site 'C'"),
    ],
)
def test_what_cannot_be_exported_is_told_with_the_remedy(
    run: FinishedRun, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["--run", str(run.folder), *arguments]) == 2
    assert re.match(f"error: .*{message}", capsys.readouterr().err)


class Untraceable(nn.Module):
    """Has a choice that depends on its data."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, image: Tensor) -> Any:
        return self.layer(image) if float(image.sum()) >= 0 else image


@pytest.mark.parametrize("to", ["torch_export", "onnx"])
def test_a_net_that_cannot_be_traced_ends_in_one_sentence(tmp_path: Path, to: str) -> None:
    task = Segmentation(Untraceable())
    (tmp_path / "models").mkdir()
    (tmp_path / "settings.yaml").write_text("net: null\n")
    safetensors.torch.save_file(task.state_dict(), tmp_path / "models" / "global.safetensors")
    with pytest.raises(ConfigError, match=r"cannot trace the network .*--to state_dict"):
        export_model(load(tmp_path, task), to=to, shape=SHAPE)


def test_a_missing_package_is_named(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_fl.export.writers.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"onnx and onnxscript: pip install .*\[export\]"):
        export_model(run, "A", to="onnx", shape=SHAPE)
