"""Sizes that keep the structure readable; imports are held by import-linter, see pyproject.toml."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.folders import ROOT

PACKAGES = ("lightning_fl", "models", "datamodules", "callbacks", "study", "examples")
MOST_ARGUMENTS = 8
SETTINGS = {"Experiment", "TrainerOptions", "Audit", "Study"}
"""Settings dataclasses: their fields are keys of YAML files."""
TWO_MEANINGS = {"Local"}
"""An algorithm and an engine; both names are in users' YAML files."""


def classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    yield file, node


def constructor_arguments(node: ast.ClassDef) -> int:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return len(method.args.args) + len(method.args.kwonlyargs) - 1
    return 0


def is_data_module(node: ast.ClassDef) -> bool:
    return any("DataModule" in ast.unparse(base) for base in node.bases)


def test_lightning_fl_has_few_names_at_its_top() -> None:
    names = {path.stem for path in (ROOT / "lightning_fl").iterdir() if path.suffix in ("", ".py")}
    assert len(names - {"__init__", "__pycache__"}) <= 20


def test_constructors_take_few_arguments() -> None:
    many = {
        node.name: count
        for _, node in classes()
        if (count := constructor_arguments(node)) > MOST_ARGUMENTS
        and node.name not in SETTINGS
        and not is_data_module(node)
    }
    assert not many
    assert [constructor_arguments(node) for _, node in classes() if node.name == "Site"] == [4]


def test_no_public_class_name_has_two_meanings() -> None:
    places = defaultdict(list)
    for file, node in classes():
        if not node.name.startswith("_"):
            places[node.name].append(str(file.relative_to(ROOT)))
    assert {name for name, files in places.items() if len(files) > 1} == TWO_MEANINGS
