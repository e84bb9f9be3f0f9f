"""Every recipe of docs/recipes.md reads and trains on the tiny example of its layout."""

import re
from pathlib import Path

import pytest

import train
from datamodules.examples import __main__ as make_example
from datamodules.examples.layouts import LAYOUTS
from tests.folders import ROOT
from tests.toy import SMALL_DENSENET, SMALL_NET

PAGE = (ROOT / "docs" / "recipes.md").read_text()
RECIPES = dict(re.findall(r"^## (\w+).*?^```yaml\n(.*?)^```", PAGE, re.M | re.S))
"""By layout."""
ON_ANOTHER = {"Augmentation": "folders"}
"""Recipes that any layout can have, and the one on which they are tried."""
TINY = {
    "images": (*SMALL_NET, "--data.init_args.size", "32"),
    "labels": (*SMALL_DENSENET, "--data.init_args.size", "32"),
    "volumes": SMALL_NET,
}
"""Arguments that make the net of each config small."""
QUICK = (
    *("--rounds", "1", "--trainer.local_steps", "2", "--trainer.accelerator", "cpu"),
    *("--aggregator", "lightning_fl.aggregation.Plain", "--evaluation.gallery", "0"),
    *("--evaluation.volumes", "false", "--algorithm", "lightning_fl.algorithms.FedAvg"),
    *("--data.init_args.batch_size", "4", "--personalisation.candidates", "[]"),
    *("--trainer.curves", "false"),
)


def test_every_layout_has_a_recipe() -> None:
    assert set(RECIPES) == {*LAYOUTS, *ON_ANOTHER}


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_validates_and_trains(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = ON_ANOTHER.get(recipe, recipe)
    patients = "10" if name == "medmnist" else "4"
    amount = ["--size", "32", "--patients", patients, "--sites", "3"]
    assert make_example.main([name, f"data/{name}", *amount]) == 0
    Path("recipe.yaml").write_text(RECIPES[recipe])
    [config] = LAYOUTS[name].configs
    kind = Path(config).stem
    cache = ["--data.init_args.cache_dir", "cache"] if kind == "volumes" else []
    files = ["--config", str(ROOT / config), "--config", "recipe.yaml"]
    arguments = [*files, *TINY[kind], *QUICK, *cache, "--output", "run"]
    assert train.main([*arguments, "--validate"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "by share of pixels" in said or "images by label" in said
    assert "WARNING" not in said
    assert (tmp_path / "run" / "contact_sheet.png").is_file()
    assert train.main(arguments) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "report.html").is_file()
