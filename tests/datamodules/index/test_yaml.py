"""Every index, target and partition can be written in YAML, and a typing error is named."""

from typing import Any

import pytest
from jsonargparse import ArgumentError, ArgumentParser

from datamodules.index import Index
from datamodules.partition.partition import Partition
from datamodules.targets import Target


def built(kind: type, text: str) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, "it")
    return parser.instantiate(parser.parse_string(f"it: {text}")).it


@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        (Index, "Table", "{path: t.csv, columns: {site: centre, image: '{id}'}, classes: [a, b]}"),
        (Index, "Folders", "{root: r, images: ['{site}/{name}_1', '{site}/{name}_2']}"),
        (Index, "Folders", "{root: r, images: '{site}/{label}/{name}', masks: null, classes: [x]}"),
        (Index, "Decathlon", "{path: r/dataset.json, site: A}"),
        (Index, "Datalist", "{files: {A: a.json, B: b.json}}"),
        (Index, "NnUnet", "{datasets: {A: a}, splits: {A: s.json}}"),
        (Index, "MedMnist", "{path: x.npz}"),
        (Target, "ClassNumbers", "{classes: 3, ignore: [9]}"),
        (Target, "MaskMap", "{values: {0: 0, 128: 1}}"),
        (Target, "Threshold", "{at: 100}"),
        (Target, "Regions", "{regions: {disc: [128, 255], cup: [255]}}"),
        (Target, "Labels", "{names: [edema, mass], ignore: [-1]}"),
        (Partition, "ByColumn", "{column: scanner}"),
        (Partition, "BySize", "{sites: 3}"),
        (Partition, "BySize", "{sites: [0.5, 0.5]}"),
        (Partition, "Dirichlet", "{alpha: 0.5, sites: 4, min_size: 2}"),
    ],
)
def test_yaml_builds_it(kind: type, name: str, settings: str) -> None:
    thing = built(kind, f"{{class_path: datamodules.{name}, init_args: {settings}}}")
    assert isinstance(thing, kind)
    assert type(thing).__name__ == name


def test_a_misspelt_setting_is_named() -> None:
    text = "{class_path: datamodules.MaskMap, init_args: {value: {0: 0}}}"
    with pytest.raises(ArgumentError, match="value"):
        built(Target, text)
