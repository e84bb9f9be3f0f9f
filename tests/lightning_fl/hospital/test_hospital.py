"""What hosts a site: on its own terms, with everything written down."""

import csv
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from jsonargparse._common import parsing_settings

from lightning_fl.aggregation.ring.identity import make
from lightning_fl.engines.hosting import HOST, Invitation
from lightning_fl.errors import AgreementError, DataError, HospitalError
from lightning_fl.hospital import offline
from lightning_fl.hospital.file import NAME
from lightning_fl.hospital.hospital import DATA, Hospital
from lightning_fl.hospital.new_file import new_file
from lightning_fl.hospital.records import ERRORS, MESSAGES
from lightning_fl.results.case_tables import read_cases
from lightning_fl.results.contact_sheet import SHEET
from lightning_fl.run.config import read_settings
from lightning_fl.training.layout import to_vector
from lightning_fl.wire.messages import COORDINATOR, Message, digest_of
from tests.folders import ROOT
from tests.toy import ONE_STEP, SMALL_NET

RUN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def open_imports() -> Iterator[None]:
    """A hospital's process keeps its import policy for ever; tests share theirs."""
    policy = ("import_path_verdicts", "import_paths_enforced")
    before = {name: parsing_settings[name] for name in policy}
    umask = os.umask(0o022)
    yield
    parsing_settings.update(before)
    offline.go_online()
    os.umask(umask)


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
    write(file, f"cache_dir: {tmp_path / 'own_cache'}")
    return Hospital(file.parent)


def write(file: Path, root: str, **values: Any) -> None:
    """A hospital's file that verifies nothing and lets all scores out, unless told otherwise."""
    usual = {"pins": "none", "least_cases": 1, "decimals": None}
    terms = yaml.safe_load(new_file(root)) | usual | values
    file.write_text(yaml.safe_dump({k: v for k, v in terms.items() if v != "left out"}))


@contextmanager
def kept(hospital: Hospital, match: str) -> Iterator[None]:
    """Expect a refusal whose reason is in errors.log, and leaves only where both sides know it."""
    with pytest.raises((HospitalError, AgreementError)) as refused:
        yield
    assert hospital.file is not None
    logs = [file.read_text() for file in hospital.file.parent.parent.rglob(ERRORS)]
    assert re.search(match, "\n".join(logs)), logs
    if refused.type is HospitalError:
        words = r"\w+, number \d+ in the errors\.log of this hospital"
        assert re.fullmatch(words, str(refused.value))
        assert refused.value.__cause__ is None


def host(hospital: Hospital, invitation: bytes) -> None:
    """Host a site and let it check itself, as each run does first."""
    hospital.handle(HOST, invitation)
    run = "" if hospital.site is None else hospital.site.setup.run
    ask(hospital, "describe", run)


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


def test_what_was_read_of_the_data_is_kept_at_the_hospital_alone(
    hospital: Hospital, invitation: Invitation, tmp_path: Path
) -> None:
    hospital.handle(HOST, invitation.encode())
    answer = ask(hospital, "describe")
    folder = tmp_path / "runs" / RUN
    assert "classes by share of pixels: 0 " in (folder / DATA).read_text()
    assert (folder / SHEET).stat().st_mode & 0o077 == 0
    assert set(answer.info) == {"layout", "samples", "patients"}


def test_nothing_is_answered_before_a_site_is_hosted(hospital: Hospital) -> None:
    with kept(hospital, "no site here yet"):
        ask(hospital, "describe")


def test_unknown_operations_and_other_runs_are_refused(
    hospital: Hospital, invitation: Invitation
) -> None:
    host(hospital, invitation.encode())
    with kept(hospital, "knows no operation 'send_images'"):
        ask(hospital, "send_images")
    with kept(hospital, "belongs to 'another'"):
        ask(hospital, "describe", run="another")
    with kept(hospital, "cannot be one of run"):
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
    ({"tensors": {"weights": torch.zeros(3)}}, r"values for each of 1 vectors, but got 3"),
]
"""Changes of a message with weights, and what they are refused with."""


def test_weights_that_no_round_can_have_sent_are_refused(
    hospital: Hospital, invitation: Invitation
) -> None:
    host(hospital, invitation.encode())
    assert hospital.site is not None
    setup = hospital.site.setup
    whole = to_vector(setup.template.state_dict(), setup.layout)
    sent = Message(RUN, 0, COORDINATOR, info={"blocks": 1}, tensors={"weights": whole})
    for change, words in WRONG_WEIGHTS:
        with kept(hospital, words):
            hospital.handle("load", replace(sent, **change).encode())
    with kept(hospital, "are not those of the settings and the seed"):
        hospital.handle("load", replace(sent, tensors={"weights": whole + 7}).encode())
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
        with kept(hospital, words):
            hospital.handle(HOST, replace(invitation, settings=settings).encode())
    values = yaml.safe_load(invitation.settings)
    values["task"]["init_args"]["loss"] = "[&a [x], *a]"
    with kept(hospital, "in which settings are hidden"):
        hospital.handle(HOST, replace(invitation, settings=yaml.safe_dump(values)).encode())


def test_a_round_out_of_order_is_refused(hospital: Hospital, invitation: Invitation) -> None:
    host(hospital, invitation.encode())
    assert hospital.site is not None
    setup = hospital.site.setup
    weights = to_vector(setup.template.state_dict(), setup.layout)
    sent = Message(RUN, 0, COORDINATOR, info={"blocks": 1}, tensors={"weights": weights})
    hospital.handle("load", sent.encode())
    with kept(hospital, "does not train in round 5"):
        hospital.handle("train", Message(RUN, 5, COORDINATOR, info={"keep": []}).encode())


def test_a_run_that_names_what_is_not_allowed_is_refused(
    hospital: Hospital, invitation: Invitation
) -> None:
    values = yaml.safe_load(invitation.settings)
    values["net"] = {"class_path": "torch.nn.Identity"}
    forged = replace(invitation, settings=yaml.safe_dump(values))
    with kept(hospital, r"names torch\.nn\.Identity"):
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
    with kept(hospital, r"not allowed|does not list"):
        hospital.handle(HOST, forged.encode())
    assert hospital.site is None


def test_a_run_goes_on_with_the_settings_it_began_with(
    hospital: Hospital, invitation: Invitation
) -> None:
    hospital.handle(HOST, invitation.encode())
    values = yaml.safe_load(invitation.settings)
    more = replace(invitation, settings=yaml.safe_dump(values | {"rounds": 9}))
    hospital.handle(HOST, more.encode())  # more rounds are no other run
    many = replace(invitation, settings=yaml.safe_dump(values | {"rounds": 201}))
    with kept(hospital, "has 201 rounds, but this hospital takes part in at most 200"):
        hospital.handle(HOST, many.encode())
    other = replace(invitation, settings=yaml.safe_dump(values | {"seed": 9}))
    with kept(hospital, "other settings than it began with: seed from 0 to 9"):
        hospital.handle(HOST, other.encode())


def test_a_hospital_hosts_no_site_of_another_name(
    hospital: Hospital, invitation: Invitation
) -> None:
    assert hospital.file is not None
    other = Hospital(hospital.file.parent, "B")
    with kept(other, "This is 'B', and cannot host site 'A'"):
        other.handle(HOST, invitation.encode())


def test_settings_and_run_names_that_are_none_are_refused(
    hospital: Hospital, invitation: Invitation
) -> None:
    with kept(hospital, "no mapping"):
        hospital.handle(HOST, replace(invitation, settings="seed").encode())
    with kept(hospital, "letters and digits only"):
        hospital.handle(HOST, replace(invitation, run="../../home").encode())


def test_other_versions_are_refused_before_anything_is_built(
    hospital: Hospital, invitation: Invitation
) -> None:
    versions = dict(invitation.versions) | {"torch": "1.0"}
    with kept(hospital, r"torch .*but the coordinator has 1\.0"):
        hospital.handle(HOST, replace(invitation, versions=versions).encode())


def test_a_missing_data_folder_is_named(tmp_path: Path, invitation: Invitation) -> None:
    file = tmp_path / NAME
    write(file, f"root: {tmp_path / 'gone'}")
    values = yaml.safe_load(invitation.settings)
    values["data"] = {"class_path": "datamodules.ImageFolder", "init_args": {"root": "/x"}}
    asked = replace(invitation, settings=yaml.safe_dump(values))
    hospital = Hospital(tmp_path)
    with kept(hospital, r"no data folder .*gone"):
        hospital.handle(HOST, asked.encode())


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
    host(hospital, invitation.encode())
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


# ---------------------------------------------------------------------- what a hospital holds


PINS = {site: digit * 64 for site, digit in zip("ABC", "abc", strict=True)}


def hosted(tmp_path: Path, invitation: Invitation, **values: Any) -> Hospital:
    """A hospital with a file that says these things, which has not been asked yet."""
    file = tmp_path / "local" / NAME
    file.parent.mkdir(exist_ok=True)
    write(file, f"cache_dir: {tmp_path / 'own_cache'}", **values)
    return Hospital(file.parent)


def sent(invitation: Invitation, **changes: Any) -> bytes:
    """The invitation with other settings."""
    values = yaml.safe_load(invitation.settings) | changes
    return replace(invitation, settings=yaml.safe_dump(values)).encode()


RING = {"class_path": "lightning_fl.aggregation.CyclicCKKS", "init_args": {"masking": "none"}}


def test_a_run_is_hosted_with_pins_or_with_the_word_that_there_are_none(
    tmp_path: Path, invitation: Invitation
) -> None:
    hospital = hosted(tmp_path, invitation, pins="left out")
    with kept(hospital, "has no `pins`. Write the fingerprint"):
        hospital.handle(HOST, invitation.encode())
    make(tmp_path / "local" / "A.identity.pem")
    hospital = hosted(tmp_path, invitation, pins=PINS)
    hospital.handle(HOST, sent(invitation, aggregator=RING))
    assert hospital.site is not None
    setup = hospital.site.setup
    assert setup.aggregator.verifies
    assert setup.terms.verified
    config = yaml.safe_load((tmp_path / "runs" / RUN / "config.yaml").read_text())
    ring = config["aggregator"]["init_args"]
    assert ring["pins"] == PINS
    assert ring["masking"] == "pairwise"


def test_a_pin_of_a_site_that_is_not_in_the_run_is_named(
    tmp_path: Path, invitation: Invitation, caplog: pytest.LogCaptureFixture
) -> None:
    """A hospital's file serves many runs, so it may pin more sites than are in this one."""
    hospital = hosted(tmp_path, invitation, pins=PINS | {"X": "a" * 64})
    hospital.handle(HOST, sent(invitation, aggregator=RING))
    assert "names ['X'], not in this run" in caplog.text


def test_a_hospital_with_pins_averages_in_no_other_way(
    tmp_path: Path, invitation: Invitation
) -> None:
    plain = {"class_path": "lightning_fl.aggregation.Plain"}
    for allow in ([], ["lightning_fl.aggregation.Plain"]):
        hospital = hosted(tmp_path, invitation, pins=PINS)
        file = tmp_path / "local" / NAME
        values = yaml.safe_load(file.read_text())
        values["allow"] += allow
        values["settings"].pop("aggregator")
        file.write_text(yaml.safe_dump(values))
        with kept(hospital, "cannot verify that a mean|does not list"):
            hospital.handle(HOST, sent(invitation, aggregator=plain))


@pytest.mark.parametrize(
    ("terms", "changes", "words"),
    [
        ({"pins": {"A": "a" * 64, "B": "b" * 64}}, {"aggregator": RING}, "no fingerprint of C"),
        ({"pins": {"A": "a" * 63}}, {}, r"pins of \['A'\] .* are no fingerprints"),
        ({"pins": []}, {}, "has no `pins`"),
        ({"least_sites": 4}, {}, r"sums the updates of 3 hospitals, .* at least 4"),
        ({}, {"sites_per_round": 2}, r"sums the updates of 2 hospitals, .* at least 3"),
        ({"rounds": 1}, {"rounds": 2}, "has 2 rounds, but this hospital takes part in at most 1"),
        ({"least_sites": 0}, {}, "Expected `least_sites` .* at least 1, but got 0"),
        ({"decimals": 9}, {}, "Expected `decimals` .* but got 9"),
        ({"epsilon": -1}, {}, "Expected `epsilon` .* but got -1"),
        ({"delta": 1}, {}, "Expected `delta` .* but got 1"),
        ({"init": ["x"]}, {}, "Expected `init` .* 64 hex digits"),
        ({"wishes": 1}, {}, "Expected the keys"),
    ],
)
def test_what_a_hospital_does_not_accept_is_refused_before_anything_is_built(
    tmp_path: Path, invitation: Invitation, terms: Any, changes: Any, words: str
) -> None:
    hospital = hosted(tmp_path, invitation, **terms)
    with kept(hospital, words):
        hospital.handle(HOST, sent(invitation, **changes))
    assert hospital.site is None


def test_another_clock_is_refused_and_both_are_named(
    hospital: Hospital, invitation: Invitation
) -> None:
    times: list[Any] = [0.0, 1e300, None, "now"]
    for time in times:
        with kept(hospital, r"clock of site 'A' is at 20\d\d.*but the coordinator's at"):
            hospital.handle(HOST, replace(invitation, time=time).encode())


@pytest.mark.parametrize(
    "text",
    [
        *("https://example.org/weights.pt", "file:///etc/passwd", "tu-hf-hub:someone/net"),
        *("tu-local-dir:/home", "/etc/passwd", "~/secrets", "a/../../b", "C:\\\\data"),
    ],
)
def test_a_coordinator_names_no_address_hub_or_path(
    hospital: Hospital, invitation: Invitation, text: str
) -> None:
    net = yaml.safe_load(invitation.settings)["net"]
    net["init_args"]["encoder_name"] = text
    with kept(hospital, "names an address, a hub or a path"):
        hospital.handle(HOST, sent(invitation, net=net))


def test_a_hospitals_process_fetches_nothing(
    hospital: Hospital, invitation: Invitation, tmp_path: Path
) -> None:
    hospital.handle(HOST, invitation.encode())
    with pytest.raises(PermissionError, match="a hospital's process fetches nothing"):
        urllib.request.urlopen("http://127.0.0.1:9/weights.pt", timeout=1)
    with pytest.raises(LocalEntryNotFoundError) as refused:  # at once, without a try
        hf_hub_download("smp-hub/resnet18.imagenet", "model.safetensors", cache_dir=tmp_path)
    assert isinstance(refused.value.__cause__, OfflineModeIsEnabled)


def test_files_of_a_run_are_for_the_hospitals_own_account(
    hospital: Hospital, invitation: Invitation, tmp_path: Path
) -> None:
    hospital.handle(HOST, invitation.encode())
    ask(hospital, "describe")
    for path in [tmp_path / "runs", *(tmp_path / "runs").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_names_of_patients_and_files_stay_in_an_error(
    tmp_path: Path, invitation: Invitation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise DataError("There is no mask of /scans/patient-4711.png.")

    hospital = hosted(tmp_path, invitation)
    hospital.handle(HOST, invitation.encode())
    monkeypatch.setattr("lightning_fl.site.site.Site._rehearse", fail)
    for number in (1, 2):
        with pytest.raises(HospitalError) as refused:
            ask(hospital, "describe")
        assert (
            str(refused.value) == f"DataError, number {number} in the errors.log of this hospital"
        )
    assert "patient-4711" in (tmp_path / "runs" / RUN / ERRORS).read_text()
    rows = list(csv.DictReader((tmp_path / "runs" / RUN / MESSAGES).open()))
    assert rows[-1]["note"] == "error 2: DataError"
    assert "patient-4711" not in (tmp_path / "runs" / RUN / MESSAGES).read_text()


def test_what_is_asked_for_twice_is_marked(hospital: Hospital, invitation: Invitation) -> None:
    host(hospital, invitation.encode())
    assert hospital.site is not None
    setup = hospital.site.setup
    weights = to_vector(setup.template.state_dict(), setup.layout)
    load = Message(RUN, 0, COORDINATOR, info={"blocks": 1}, tensors={"weights": weights})
    hospital.handle("load", load.encode())
    first, again = (ask(hospital, "evaluate").info for _ in range(2))
    assert first == again
    rows = list(csv.DictReader((hospital.folder / MESSAGES).open()))
    notes = [row["note"] for row in rows if row["operation"] == "evaluate"]
    assert notes == ["", "", "WARNING: evaluate of round 0 was asked for before", ""]


def test_scores_leave_rounded_without_losses_and_of_enough_patients(
    tmp_path: Path, invitation: Invitation
) -> None:
    answers = []
    for number, (decimals, least) in enumerate([(None, 1), (2, 1), (2, 50)]):
        run = f"{number}{RUN}"
        hospital = hosted(tmp_path, invitation, decimals=decimals, least_cases=least)
        host(hospital, replace(invitation, run=run).encode())
        assert hospital.site is not None
        setup = hospital.site.setup
        weights = to_vector(setup.template.state_dict(), setup.layout)
        load = Message(run, 0, COORDINATOR, info={"blocks": 1}, tensors={"weights": weights})
        hospital.handle("load", load.encode())
        answers.append([ask(hospital, op, run).info for op in ("evaluate", "personalise")])
    (whole, final), (rounded, last), (none, nothing) = answers
    assert "loss" in whole["val"]
    assert rounded["val"] == {k: round(v, 2) for k, v in whole["val"].items() if k != "loss"}
    assert none == {"val": {}, "undefined": True}
    assert "loss" in final["scores"]["personal"]["test"]
    assert last["scores"]["personal"]["test"]["dice"] == round(
        final["scores"]["personal"]["test"]["dice"], 2
    )
    assert "loss" not in str(last)
    assert nothing["scores"]["personal"] == {"val": {}, "test": {}}
    assert set(nothing["personalisation"]["candidates"]) == set()


def test_rounds_are_not_chosen_by_a_number_that_stays(
    tmp_path: Path, invitation: Invitation
) -> None:
    hospital = hosted(tmp_path, invitation, decimals=3)
    evaluation = yaml.safe_load(invitation.settings)["evaluation"] | {"metric": "loss"}
    hospital.handle(HOST, sent(invitation, evaluation=evaluation))
    with kept(hospital, "losses stay at this hospital"):
        ask(hospital, "describe")


def test_nothing_is_done_for_a_run_whose_description_was_refused(
    tmp_path: Path, invitation: Invitation
) -> None:
    hospital = hosted(tmp_path, invitation, epsilon=8.0)
    hospital.handle(HOST, invitation.encode())
    assert hospital.site is not None
    with kept(hospital, "has not checked its data, settings and budget"):
        ask(hospital, "evaluate")
    with kept(hospital, "the run has no differential privacy"):
        ask(hospital, "describe")
    for op in ("load", "train", "evaluate", "personalise", "ring_join"):
        with pytest.raises(HospitalError):
            ask(hospital, op)
    hospital.site.ledger.describe()  # as if it had described itself before the file had a budget
    with kept(hospital, r"(?s)has no differential privacy.*has no differential privacy"):
        ask(hospital, "train")


def test_a_process_that_comes_back_need_not_describe_its_site_again(
    hospital: Hospital, invitation: Invitation
) -> None:
    host(hospital, invitation.encode())
    assert hospital.file is not None
    back = Hospital(hospital.file.parent)
    back.handle(HOST, invitation.encode())
    with kept(back, "has not got the weights of round 0"):
        ask(back, "evaluate")


def test_a_refused_change_of_settings_tells_nothing_of_the_hospitals_own(
    tmp_path: Path, invitation: Invitation
) -> None:
    hospital = hosted(tmp_path, invitation, pins=PINS)
    make(tmp_path / "local" / "A.identity.pem")
    hospital.handle(HOST, sent(invitation, aggregator=RING))
    other = {**RING, "init_args": {"bits": 22}}
    with pytest.raises(AgreementError, match=r"began with: aggregator\. Start") as refused:
        hospital.handle(HOST, sent(invitation, aggregator=other))
    assert str(tmp_path) not in str(refused.value)


def test_no_error_leaves_whole_where_it_cannot_be_written_down(
    tmp_path: Path, invitation: Invitation
) -> None:
    hospital = hosted(tmp_path, invitation)
    file = tmp_path / "local" / NAME
    text = file.read_text()
    file.write_bytes(b"\xff\xfe")
    with kept(hospital, "cannot be read, or is no YAML"):
        hospital.handle(HOST, invitation.encode())
    file.write_text(text.replace("../runs", f"{NAME}/inside"))  # no folder can be made in a file
    with kept(hospital, "NotADirectoryError"):
        hospital.handle(HOST, invitation.encode())
    (file.parent / ERRORS).unlink()
    (file.parent / ERRORS).mkdir()
    with pytest.raises(HospitalError, match=r"which this hospital could not write down$"):
        hospital.handle(HOST, invitation.encode())


def test_names_that_a_coordinator_chooses_do_not_fill_the_records(
    hospital: Hospital, invitation: Invitation
) -> None:
    host(hospital, invitation.encode())
    for round_ in (10**6, 10**6, "r" * 10**5, ["r"]):
        message = Message(RUN, round_, COORDINATOR, ring="x" * 10**5)  # type: ignore[arg-type]
        with pytest.raises(HospitalError):
            hospital.handle("train", message.encode())
    assert (hospital.folder / MESSAGES).stat().st_size < 20_000
    assert hospital.records is not None
    assert hospital.records._asked == set()
