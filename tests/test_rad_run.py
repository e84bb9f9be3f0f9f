"""From example files to classes: a run of RadChestCT and predictions by its models."""

import csv
from pathlib import Path

import pytest
import torch

import train
from datamodules import RadChestCT
from datamodules.examples import __main__ as make_example
from lightning_fl.errors import ConfigError
from lightning_fl.predict import __main__ as predict
from lightning_fl.predict.finished_run import FinishedRun
from tests.folders import ROOT
from tests.toy import ONE_STEP, SMALL_DENSENET, TINY_EXAMPLE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rad") / "data"
    assert make_example.main(["rad", str(folder), *TINY_EXAMPLE]) == 0
    return folder


@pytest.fixture(scope="module")
def run(made: Path) -> Path:
    output = made.parent / "run"
    status = train.main(
        [
            *("--config", str(ROOT / "configs" / "rad_chestct.yaml"), "--output", str(output)),
            *("--data.init_args.root", str(made), "--data.init_args.cache_dir", str(made / "c")),
            *("--data.init_args.size", "32", "--data.init_args.batch_size", "4"),
            *("--rounds", "1", "--trainer.local_steps", "1", "--trainer.accelerator", "cpu"),
            *(*ONE_STEP, *SMALL_DENSENET),
        ]
    )
    assert status == 0
    return output


def predicted(run: Path, source: Path, output: Path, *arguments: str) -> list[dict[str, str]]:
    named = ["--run", str(run), "--input", str(source), "--output", str(output), *arguments]
    assert predict.main(named) == 0
    with output.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("model", ["global", "personal"])
def test_a_prediction_is_what_the_model_gives_for_the_sample_of_training(
    model: str, run: Path, made: Path, tmp_path: Path
) -> None:
    data = RadChestCT(made, thickness={"1": 1, "2": 5, "3": 10}, size=32, cache_dir=str(made / "c"))
    name = sorted(path.name for path in made.glob("*.npz"))[-1]
    with (made / "metadata.csv").open(newline="") as file:
        [row] = [r for r in csv.DictReader(file) if r["VolumeAcc_DEID"] == name]
    site = row["client"]
    volume = data.preprocessing(site).read(made / name).images()[0]
    task = FinishedRun(run).model(site, model)
    with torch.no_grad():
        expected = task(volume[None]).softmax(dim=1)[0]
    arguments = ["--site", site, "--model", model]
    [found] = predicted(run, made / name, tmp_path / "classes.csv", *arguments)
    assert found["scan"] == name.removesuffix(".npz")
    assert float(found["probability_1"]) == pytest.approx(float(expected[1]), abs=2e-6)
    assert found["class"] == str(int(expected.argmax()))


def test_a_folder_gives_one_row_a_volume(run: Path, made: Path, tmp_path: Path) -> None:
    rows = predicted(run, made, tmp_path / "classes.csv", "--site", "1")
    assert len(rows) == len(list(made.glob("*.npz")))
    for row in rows:
        both = float(row["probability_0"]) + float(row["probability_1"])
        assert both == pytest.approx(1, abs=3e-6)


def test_a_shared_model_that_is_not_whole_without_a_site_needs_one(
    run: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["--run", str(run), "--input", str(made), "--output", str(tmp_path / "o.csv")]
    assert predict.main([*named, "--model", "global"]) == 2
    assert "stayed at each. Name a site with --site" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"name one of \['1', '2', '3'\] with --site"):
        FinishedRun(run).preprocessing(None)


def test_a_damaged_volume_costs_none_of_those_before_it(
    run: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = sorted(made.glob("*.npz"))[0]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.npz").write_bytes(good.read_bytes())
    (tmp_path / "in" / "b.npz").write_bytes(good.read_bytes()[:100])
    output = tmp_path / "o.csv"
    named = ["--run", str(run), "--site", "1", "--input", str(tmp_path / "in")]
    assert predict.main([*named, "--output", str(output)]) == 2
    assert "b.npz" in capsys.readouterr().err
    assert [line.split(",")[0] for line in output.read_text().splitlines()] == ["scan", "a"]


def test_classes_go_into_a_file(
    run: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["--run", str(run), "--site", "1", "--input", str(made), "--output", str(tmp_path)]
    assert predict.main(named) == 2
    assert "name a CSV file for classes" in capsys.readouterr().err
