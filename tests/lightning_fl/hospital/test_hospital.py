"""What hosts a site: on its own terms, with everything written down."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse._common import parsing_settings

from lightning_fl.engines.hosting import HOST, Invitation
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.hospital.file import NAME, TEMPLATE
from lightning_fl.hospital.hospital import MESSAGES, Hospital
from lightning_fl.results.case_tables import read_cases
from lightning_fl.run.config import read_settings
from lightning_fl.training.layout import to_vector
from lightning_fl.wire.messages import COORDINATOR, Message, MessageError, digest_of
from tests.folders import ROOT
from tests.toy import ONE_STEP, SMALL_NET

RUN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def open_imports() -> Iterator[None]:
    """A hospital's process keeps its import policy for ever; tests share theirs."""
    policy = ("import_path_verdicts", "import_paths_enforced")
    before = {name: parsing_settings[name] for name in policy}
    yield
    parsing_settings.update(before)


@pytest.fixture(scope="module")
def settings_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Makes the settings of a tiny run in a folder; they are read once for all tests."""
    first = tmp_path_factory.mktemp("first")
    arguments = [
        *("--config", str(ROOT / "configs" / "quickstart.yaml"), "--output", str(first / "run")),
        *("--rounds", "1", "--trainer.local_steps", "1", "--trainer.accelerator", "cpu"),
        *("--data.init_args.size", "32", "--data.init_args.patients", "[3]"),
        *("--data.init_args.slices", "6", "--data.init_args.sites", "3"),
        *("--data.init_args.cache_dir", str(first / "coordinators_cache"), *SMALL_NET, *ONE_STEP),
    ]
    text = read_settings(arguments).text
    return lambda folder: text.replace(str(first), str(folder))


@pytest.fixture
def invitation(
    settings_in: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Invitation:
    """To a tiny run of chest phantoms in three hospitals."""
    monkeypatch.chdir(ROOT)
    return Invitation("A", settings_in(tmp_path), RUN, ("A", "B", "C"))


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    """With a file of its own that says where its patients are made and kept."""
    file = tmp_path / "local" / NAME
    file.parent.mkdir()
    file.write_text(TEMPLATE.replace("ROOT", f"cache_dir: {tmp_path / 'own_cache'}"))
    return Hospital(file.parent)


def ask(hospital: Hospital, op: str, run: str = RUN) -> Message:
    message = Message(run=run, round=0, sender=COORDINATOR)
    return Message.decode(hospital.handle(op, message.encode()))


def test_a_hospital_hosts_its_site_with_its_own_data_and_folder(
    hospital: Hospital, invitation: Invitation, tmp_path: Path
) -> None:
    hospital.handle(HOST, invitation.encode())
    assert ask(hospital, "describe").info["samples"]["train"] > 0
    assert (tmp_path / "own_cache").is_dir()
    assert not (tmp_path / "coordinators_cache").exists()
    config = yaml.safe_load((tmp_path / "runs" / RUN / "config.yaml").read_text())
    assert config["data"]["init_args"]["batch_size"] == 8
    assert config["trainer"]["accelerator"] == "auto"
    assert (tmp_path / "runs" / RUN / "checkpoints" / "sites" / "A").is_dir()


def test_every_message_is_written_down_with_its_size_and_digest(
    hospital: Hospital, invitation: Invitation, tmp_path: Path
) -> None:
    hospital.handle(HOST, invitation.encode())
    request = Message(run=RUN, round=0, sender=COORDINATOR).encode()
    answer = hospital.handle("describe", request)
    with (tmp_path / "runs" / RUN / MESSAGES).open() as file:
        first, *rows = csv.DictReader(file)
    assert (first["operation"], first["bytes"]) == (HOST, str(len(invitation.encode())))
    assert [(r["operation"], r["direction"], int(r["bytes"]), r["digest"]) for r in rows] == [
        ("describe", "in", len(request), digest_of(request)),
        ("describe", "out", len(answer), digest_of(answer)),
    ]


def test_nothing_is_answered_before_a_site_is_hosted(hospital: Hospital) -> None:
    with pytest.raises(MessageError, match="no site here yet"):
        ask(hospital, "describe")


def test_unknown_operations_and_other_runs_are_refused(
    hospital: Hospital, invitation: Invitation
) -> None:
    hospital.handle(HOST, invitation.encode())
    with pytest.raises(MessageError, match="knows no operation 'send_images'"):
        ask(hospital, "send_images")
    with pytest.raises(MessageError, match="belongs to 'another'"):
        ask(hospital, "describe", run="another")
    with pytest.raises(MessageError, match="cannot be one of run"):
        hospital.handle(HOST, replace(invitation, run="another").encode())


WRONG_WEIGHTS: list[tuple[dict[str, Any], str]] = [
    ({"round": 99}, "Weights of round 99, but the run has"),
    ({"info": {"blocks": 0}}, "blocks, but got 0"),
    ({"info": {"blocks": 10**9}}, "blocks, but got 1000000000"),
    ({"info": {"blocks": True}}, "blocks, but got True"),
    ({"info": {}}, "blocks, but got None"),
    ({"tensors": {}}, r"one tensor `weights`, but got \[\]"),
    ({"tensors": {"weights": torch.zeros(3), "more": torch.zeros(3)}}, "one tensor `weights`"),
    ({"tensors": {"weights": torch.zeros(3, dtype=torch.int64)}}, "but got torch.int64"),
    ({"tensors": {"weights": torch.zeros(3, 1)}}, r"of shape \(3, 1\)"),
    ({"tensors": {"weights": torch.zeros(10**7)}}, r"of shape \(10000000,\)"),
    ({"tensors": {"weights": torch.tensor([0.0, torch.nan])}}, "holds NaN or infinity"),
    ({"tensors": {"weights": torch.tensor([0.0, -torch.inf])}}, "holds NaN or infinity"),
    ({"tensors": {"weights": torch.zeros(3)}}, "Expected a vector of"),
]
"""Changes of a message with weights, and what they are refused with."""


def test_weights_that_no_round_can_have_sent_are_refused(
    hospital: Hospital, invitation: Invitation
) -> None:
    hospital.handle(HOST, invitation.encode())
    assert hospital.site is not None
    whole = torch.zeros(hospital.site.state.layout.length)
    sent = Message(RUN, 0, COORDINATOR, info={"blocks": 1}, tensors={"weights": whole})
    for change, words in WRONG_WEIGHTS:
        with pytest.raises(ValueError, match=words):
            hospital.handle("load", replace(sent, **change).encode())
    hospital.handle("load", sent.encode())  # the site is as it was


def test_other_accounts_of_the_machine_cannot_read_what_a_run_leaves(
    hospital: Hospital, invitation: Invitation, tmp_path: Path
) -> None:
    hospital.handle(HOST, invitation.encode())
    assert (tmp_path / "runs" / RUN).stat().st_mode & 0o777 == 0o700


def test_settings_with_aliases_or_without_end_are_refused_before_they_are_read(
    hospital: Hospital, invitation: Invitation
) -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(3))
    for settings, words in {bomb: "has an alias", "x" * 2**21: "at most 1048576"}.items():
        with pytest.raises(ConfigError, match=words):
            hospital.handle(HOST, replace(invitation, settings=settings).encode())
    values = yaml.safe_load(invitation.settings)
    values["task"]["init_args"]["loss"] = "[&a [x], *a]"
    with pytest.raises(ConfigError, match="in which settings are hidden"):
        hospital.handle(HOST, replace(invitation, settings=yaml.safe_dump(values)).encode())


def test_a_round_out_of_order_is_refused(hospital: Hospital, invitation: Invitation) -> None:
    hospital.handle(HOST, invitation.encode())
    assert hospital.site is not None
    weights = torch.zeros(hospital.site.state.layout.length)
    sent = Message(RUN, 0, COORDINATOR, info={"blocks": 1}, tensors={"weights": weights})
    hospital.handle("load", sent.encode())
    with pytest.raises(ValueError, match="of round 0, not of round 4"):
        hospital.handle("train", Message(RUN, 5, COORDINATOR, info={"keep": []}).encode())


def test_a_run_that_names_what_is_not_allowed_is_refused(
    hospital: Hospital, invitation: Invitation
) -> None:
    values = yaml.safe_load(invitation.settings)
    values["net"] = {"class_path": "torch.nn.Identity"}
    forged = replace(invitation, settings=yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"names torch\.nn\.Identity"):
        hospital.handle(HOST, forged.encode())
    assert hospital.site is None


@pytest.mark.parametrize(
    "change",
    [
        {"net": {"class_path": "models.losses.nn.Identity"}},  # a module's own import
        {"callbacks": ["ModelCheckpoint"]},  # a short name
        {"aggregator": {"class_path": "Plain"}},
    ],
)
def test_what_is_not_defined_where_it_is_allowed_is_never_imported(
    hospital: Hospital, invitation: Invitation, change: dict[str, Any]
) -> None:
    forged = replace(
        invitation, settings=yaml.safe_dump(yaml.safe_load(invitation.settings) | change)
    )
    with pytest.raises(ConfigError, match=r"not allowed|does not list"):
        hospital.handle(HOST, forged.encode())
    assert hospital.site is None


def test_a_run_goes_on_with_the_settings_it_began_with(
    hospital: Hospital, invitation: Invitation
) -> None:
    hospital.handle(HOST, invitation.encode())
    values = yaml.safe_load(invitation.settings)
    more = replace(invitation, settings=yaml.safe_dump(values | {"rounds": 9}))
    hospital.handle(HOST, more.encode())  # more rounds are no other run
    other = replace(invitation, settings=yaml.safe_dump(values | {"seed": 9}))
    with pytest.raises(ConfigError, match="other settings than it began with: seed"):
        hospital.handle(HOST, other.encode())


def test_a_hospital_hosts_no_site_of_another_name(
    hospital: Hospital, invitation: Invitation
) -> None:
    assert hospital.file is not None
    with pytest.raises(ConfigError, match="This is 'B', and cannot host site 'A'"):
        Hospital(hospital.file.parent, "B").handle(HOST, invitation.encode())


def test_settings_and_run_names_that_are_none_are_refused(
    hospital: Hospital, invitation: Invitation
) -> None:
    with pytest.raises(ConfigError, match="no mapping"):
        hospital.handle(HOST, replace(invitation, settings="seed").encode())
    with pytest.raises(ConfigError, match="letters and digits only"):
        hospital.handle(HOST, replace(invitation, run="../../home").encode())


def test_other_versions_are_refused_before_anything_is_built(
    hospital: Hospital, invitation: Invitation
) -> None:
    versions = dict(invitation.versions) | {"torch": "1.0"}
    with pytest.raises(ConfigError, match=r"torch .*but the coordinator has 1\.0"):
        hospital.handle(HOST, replace(invitation, versions=versions).encode())


def test_a_missing_data_folder_is_named(tmp_path: Path, invitation: Invitation) -> None:
    file = tmp_path / NAME
    file.write_text(TEMPLATE.replace("ROOT", f"root: {tmp_path / 'gone'}"))
    values = yaml.safe_load(invitation.settings)
    values["data"] = {"class_path": "datamodules.ImageFolder", "init_args": {"root": "/x"}}
    asked = replace(invitation, settings=yaml.safe_dump(values))
    with pytest.raises((ConfigError, DataError), match=r"no data folder .*gone"):
        Hospital(tmp_path).handle(HOST, asked.encode())


def test_a_simulated_site_lives_in_the_folder_of_the_run(
    invitation: Invitation, tmp_path: Path
) -> None:
    hospital = Hospital(None)
    hospital.handle(HOST, replace(invitation, folder=str(tmp_path / "run"), sites=()).encode())
    assert ask(hospital, "describe").info["layout"]
    assert (tmp_path / "run" / "checkpoints" / "sites" / "A").is_dir()
    assert not (tmp_path / "run" / MESSAGES).exists()


def test_a_hospital_keeps_the_scores_of_its_patients_by_name_and_tells_numbers(
    hospital: Hospital, invitation: Invitation, tmp_path: Path
) -> None:
    hospital.handle(HOST, invitation.encode())
    assert hospital.site is not None
    setup = hospital.site.setup
    weights = {"weights": to_vector(setup.template.state_dict(), setup.layout)}
    load = Message(run=RUN, round=0, sender=COORDINATOR, info={"blocks": 1}, tensors=weights)
    hospital.handle("load", load.encode())
    answer = hospital.handle("personalise", Message(RUN, 0, COORDINATOR).encode())
    names = {row.case for row in read_cases(tmp_path / "runs" / RUN / "cases.csv")}
    assert len(names) == 2  # one patient to validate and one to test
    assert not any(name.encode() in answer for name in names)
    cases = Message.decode(answer).info["cases"]
    assert cases["personal"]["test"]["dice"]["patients"] == 1
