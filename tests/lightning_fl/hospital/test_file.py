"""A hospital's own file: its word on data and device counts, and so does what it does not allow."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_fl.errors import ConfigError
from lightning_fl.hospital.file import NAME, HospitalFile
from lightning_fl.hospital.new_file import new_file
from lightning_fl.run.import_paths import import_paths

ALL = ["segmentation_models_pytorch.*", "datamodules.*", "lightning_fl.*"]
SENT: dict[str, Any] = {
    "seed": 3,
    "net": {"class_path": "segmentation_models_pytorch.Unet", "init_args": {"classes": 1}},
    "data": {
        "class_path": "datamodules.ImageFolder",
        "init_args": {
            "root": "/the/coordinators",
            "index": {"class_path": "datamodules.Table", "init_args": {"path": "hospital.csv"}},
            "partition": {"class_path": "datamodules.BySize", "init_args": {"sites": 3}},
            "size": 64,
            "batch_size": 64,
        },
    },
    "trainer": {"local_steps": 5, "accelerator": "gpu", "device": 7},
    "aggregator": {
        "class_path": "lightning_fl.aggregation.CyclicCKKS",
        "init_args": {
            "bits": 24,
            "masking": "none",
            "allow_two_sites": True,
            "pins": {"A": "forged"},
            "identities": "/etc",
        },
    },
    "loggers": [{"class_path": "somewhere.Logger"}],
}


@pytest.fixture
def own(tmp_path: Path) -> HospitalFile:
    file = tmp_path / "local" / NAME
    file.parent.mkdir()
    file.write_text(new_file(f"root: {tmp_path}") + "\npins: none\n")
    return HospitalFile.read(file)


def test_the_template_is_a_valid_file_whose_paths_count_from_it(own: HospitalFile) -> None:
    assert own.folder.resolve() == own.file.parent.parent / "runs"
    assert own.settings["data"]["init_args"]["batch_size"] == 8


def test_data_device_and_mask_keys_are_never_the_coordinators(own: HospitalFile) -> None:
    settings = own.lay_over(SENT)
    assert settings["data"]["init_args"] == {
        "root": str(own.file.parents[1]),
        "size": 64,
        "batch_size": 8,
    }
    assert settings["trainer"] == {"local_steps": 5, "accelerator": "auto", "curves": False}
    ring = {"bits": 24, "masking": "pairwise", "allow_two_sites": False}
    assert settings["aggregator"]["init_args"] == ring
    assert settings["net"] == SENT["net"]
    assert settings["seed"] == 3


def test_training_curves_leave_only_where_the_hospitals_file_allows_it(tmp_path: Path) -> None:
    sent = SENT | {"trainer": {"local_steps": 5, "curves": True}}
    for line, allowed in {"": False, "curves: true": True}.items():
        file = tmp_path / NAME
        text = new_file(f"root: {tmp_path}") + "\npins: none\n"
        file.write_text(re.sub(r"curves: false.*", line, text))
        assert HospitalFile.read(file).lay_over(sent)["trainer"]["curves"] is allowed


def test_what_only_the_coordinator_uses_is_left_out_and_not_checked(own: HospitalFile) -> None:
    assert "loggers" not in own.lay_over(SENT)


@pytest.mark.parametrize(
    "change",
    [
        {"net": {"class_path": "subprocess.Popen", "init_args": {"args": ["id"]}}},
        {"task": {"class_path": "models.Segmentation", "init_args": {"loss": "os.system"}}},
        {"task": "os.system"},
        {"callbacks": [{"class_path": "builtins.exec"}]},
        {"data": {"class_path": "datamodules.ImageFolder", "init_args": {"augment": " os.abort "}}},
        {"net": {"class_path": "Popen"}},
        {"aggregator": {"class_path": "lightning_fl.aggregation.Plain"}},
    ],
)
def test_what_is_not_allowed_is_refused_by_name(own: HospitalFile, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"`allow` in this hospital's .* does not list"):
        own.lay_over(SENT | change)


@pytest.mark.parametrize(
    "change",
    [
        {"config": "/etc/hostname"},
        {"resume": "/somewhere"},
        {"data.init_args.root": "/elsewhere"},
        {"aggregator.init_args.masking": "none"},
        {"trainer.accelerator": "gpu"},
        {"callbacks+": []},
        {"aggregator": SENT["aggregator"] | {"dict_kwargs": {"masking": "none"}}},
        {"data": SENT["data"] | {"init_args": {"augment.class_path": "os.abort"}}},
        {"callbacks": "[{class_path: pytorch_lightning.callbacks.LambdaCallback}]"},
        {"net": "{class_path: torch.nn.Identity}"},
        {"task": {"class_path": "models.Segmentation", "init_args": {"loss": "[os]"}}},
        {1: 2},
    ],
)
def test_what_the_parser_could_read_otherwise_is_refused(
    own: HospitalFile, change: dict[Any, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"are none|past this hospital's own|are hidden"):
        own.lay_over(SENT | change)


def test_a_hospital_makes_sure_that_its_word_has_been_understood(own: HospitalFile) -> None:
    settings = own.lay_over(SENT)
    own.check_word(settings | {"seed": 7})
    settings["data"]["init_args"]["batch_size"] = 64
    with pytest.raises(ConfigError, match=r"do not count in this run: data\.init_args\.batch_size"):
        own.check_word(settings)


@pytest.mark.parametrize("entry", ["*", "os", "models.*.x", "torch*", "a..b", ""])
def test_what_allow_cannot_mean_is_refused(tmp_path: Path, entry: str) -> None:
    file = tmp_path / NAME
    file.write_text(
        yaml.safe_dump({"folder": "x", "pins": "none", "settings": {}, "allow": [entry]})
    )
    with pytest.raises(ConfigError, match="to list paths such as"):
        HospitalFile.read(file)


@pytest.mark.parametrize(
    ("values", "moved"),
    [
        (
            {"allow": ["lightning_fl.differential_privacy.*"]},
            "lightning_fl.differential_privacy.*, which is lightning_fl.privacy.* since",
        ),
        (
            {"settings": {"audit": {"class_path": "lightning_fl.privacy.Audit"}}},
            "lightning_fl.privacy.Audit, which is lightning_fl.audit.Audit since",
        ),
    ],
)
def test_a_file_of_version_0_1_0_ends_in_one_sentence_that_says_what_to_change(
    tmp_path: Path, values: dict[str, Any], moved: str
) -> None:
    file = tmp_path / NAME
    file.write_text(
        yaml.safe_dump({"folder": "x", "pins": "none", "settings": {}, "allow": [], **values})
    )
    with pytest.raises(ConfigError) as error:
        HospitalFile.read(file)
    assert str(error.value) == f"{file} names {moved} version 0.2.0; change it there."


def test_what_stands_at_a_path_of_version_0_1_0_today_may_be_named(tmp_path: Path) -> None:
    file = tmp_path / NAME
    allow = ["lightning_fl.privacy.*", "lightning_fl.privacy.SiteLevelDP"]
    file.write_text(yaml.safe_dump({"folder": "x", "pins": "none", "settings": {}, "allow": allow}))
    assert HospitalFile.read(file).allow == tuple(allow)


def test_paths_of_data_are_never_the_coordinators(own: HospitalFile) -> None:
    data = {
        "class_path": "datamodules.RadChestCT",
        "init_args": {"metadata": "/abs.csv", "volumes": "/v", "fold_file": "/f", "size": 8},
    }
    found = own.lay_over(SENT | {"data": data})["data"]["init_args"]
    assert not {"metadata", "volumes", "fold_file"} & set(found)


def test_a_class_may_be_allowed_alone(own: HospitalFile) -> None:
    assert own.allows("torch.optim.Adam")
    assert not own.allows("torch.load")
    assert not own.allows("modelsx.Evil")


def test_another_data_module_of_the_hospital_replaces_the_coordinators_whole(
    tmp_path: Path,
) -> None:
    file = tmp_path / NAME
    mine = {"class_path": "datamodules.ChestPhantoms", "init_args": {"sites": 3}}
    file.write_text(
        yaml.safe_dump({"folder": "x", "pins": "none", "settings": {"data": mine}, "allow": ALL})
    )
    assert HospitalFile.read(file).lay_over(SENT)["data"] == mine


def test_words_and_numbers_are_no_import_paths() -> None:
    values = {"precision": "32-true", "name": "tu-lcnet_050", "pattern": r"^(P\d+)_.*", "x": 1.5}
    assert list(import_paths(values)) == []


def test_data_that_are_not_here_are_named_with_the_file(own: HospitalFile) -> None:
    settings = own.lay_over(SENT)
    own.check_data(settings)
    settings["data"]["init_args"]["root"] = "/nowhere/at/all"
    with pytest.raises(ConfigError, match=f"/nowhere/at/all.*{NAME}"):
        own.check_data(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "There is no .*docs/deploy.md"),
        ("a: [", "is no YAML"),
        ("folder: x", "Expected the keys"),
        ("- 1", "Expected the keys"),
        ("folder: x\nsettings: {}\nallow: all", "Expected `allow` to be a list"),
        ("folder: x\nsettings: []\nallow: []", "`settings` a mapping"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / NAME
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        HospitalFile.read(file)
