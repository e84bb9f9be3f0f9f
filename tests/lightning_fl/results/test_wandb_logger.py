"""wandb keeps offline runs in files whose records the test reads back."""

import importlib
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from lightning_fl.errors import ConfigError
from lightning_fl.results.summary import read_results
from lightning_fl.results.wandb_logger import FederationWandbLogger
from tests.waiting import PATIENCE, wait_until

BLOCK = 32768  # the file is a LevelDB log behind a header of 7 bytes


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def records(file: Path) -> Iterator[Any]:
    proto: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")

    data, place, message = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        _, size, kind = struct.unpack_from("<IHB", data, place)
        if kind == 0:  # padding up to the next block
            place += BLOCK - place % BLOCK
            continue
        if place + 7 + size > len(data):  # still being written
            return
        message += data[place + 7 : place + 7 + size]
        place += 7 + size
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
        if kind in (1, 4):  # the whole record, or its last part
            record = proto.Record()
            record.ParseFromString(message)
            message = b""
            yield record


def history(run: Path) -> list[dict[str, str]]:
    return [
        {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for file in sorted(run.glob("wandb/offline-run-*/*.wandb"))
        for record in records(file)
        if record.WhichOneof("record_type") == "history"
    ]


def settled_history(run: Path, entries: int) -> list[dict[str, str]]:
    """The history once wandb's own process has written that many entries."""
    wait_until(lambda: len(history(run)) >= entries)
    return history(run)


def scores(round_: int) -> dict[str, float]:
    return {f"{site}/global/val/dice": round_ / 10 for site in ("A", "B")}


def test_two_starts_give_one_run_with_the_round_as_step(tmp_path: Path) -> None:
    first = FederationWandbLogger()
    run_id = first.bind(tmp_path)
    first.log_hyperparams({"seed": 1})
    for round_ in (1, 2):
        first.log_metrics(scores(round_), step=round_)
    first.finalize("success")
    time.sleep(1.1)  # wandb names its folders by the second
    resumed = FederationWandbLogger()
    assert resumed.bind(tmp_path, run_id) == run_id
    resumed.log_metrics(scores(3), step=3)
    resumed.finalize("failed")

    logged = settled_history(tmp_path, 3)
    assert [entry["round"] for entry in logged] == ["1", "2", "3"]
    assert logged[1]["A/global/val/dice"] == logged[1]["B/global/val/dice"] == "0.2"
    files = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert {file.name for file in files} == {f"run-{run_id}.wandb"}
    metrics = [record.metric for record in records(files[0]) if record.HasField("metric")]
    assert {(metric.glob_name, metric.step_metric) for metric in metrics if metric.glob_name} == {
        ("*", "round")
    }


def test_final_scores_are_a_table_and_pictures_come_when_asked(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    run = make_run(sites=("Aachen", "Boston"), rounds=2)
    results = read_results(run / "results.json")
    for pictures in (False, True):
        folder = tmp_path / str(pictures)
        logger = FederationWandbLogger(log_pictures=pictures)
        logger.bind(folder)
        logger.log_results(results, run)
        logger.finalize("success")
        [entry] = settled_history(folder, 1)
        assert entry["round"] == "2"
        [file] = folder.glob("wandb/offline-run-*/files/media/table/*.json")
        table = json.loads(file.read_text())
        assert table["columns"] == ["metric", "site", "global", "global_bn", "personal"]
        rows = {tuple(row[:2]): row[2:] for row in table["data"]}
        assert rows["dice", "mean"][0] == results["mean"]["global"]["test"]["dice"]
        assert {name for metric, name in rows if metric == "loss"} == {
            *("Aachen", "Boston", "mean", "worst")
        }
        images = list(folder.glob("wandb/offline-run-*/files/media/images/Aachen/*.png"))
        assert len(images) == (4 if pictures else 0)
        masks = list(folder.glob("wandb/offline-run-*/files/media/images/mask/**/*.png"))
        assert bool(masks) == pictures


def test_id_of_the_constructor_is_kept(tmp_path: Path) -> None:
    assert FederationWandbLogger(id="chosen").bind(tmp_path / "new") == "chosen"


def test_binding_after_the_first_metric_is_refused(tmp_path: Path) -> None:
    logger = FederationWandbLogger(offline=True)
    logger.bind(tmp_path)
    logger.log_metrics({"mean": 0.5}, step=1)
    with pytest.raises(ConfigError, match="before the first metric"):
        logger.bind(tmp_path)
    logger.finalize("success")


def bind_after_fresh_imports(folder: Path) -> None:
    """Fail if all that imports wandb here has loaded it, and not only named it."""
    ours = ("wandb", "lightning_fl", "pytorch_lightning")
    for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
        del sys.modules[name]
    fresh: Any = importlib.import_module("lightning_fl.results.wandb_logger")
    fresh.FederationWandbLogger(offline=True).bind(folder)
    sys.exit("wandb" in sys.modules)


def test_wandb_is_not_imported_before_it_is_used(tmp_path: Path) -> None:
    child = get_context("fork").Process(target=bind_after_fresh_imports, args=(tmp_path,))
    child.start()  # what it imports is gone with it, and torch need not be loaded again
    child.join(PATIENCE)
    assert child.exitcode == 0
