import json
from pathlib import Path

import torch

from lightning_fl.coordinator.checkpoint import RunState
from lightning_fl.coordinator.recorder import Recorder
from lightning_fl.wire.records import CostRow, MetricRow, TranscriptRow


def recorder(folder: Path) -> Recorder:
    return Recorder(folder, training_sites=["A"], unseen=[], aggregator={"name": "CyclicCKKS"})


def add_round(to: Recorder, round_: int) -> None:
    to.add([MetricRow(round_, "A", "global", "val", "dice", 0.1 * round_)])
    for operation in ("train", "ring_pass"):
        to.costs.append(CostRow(round_, "A", operation, 10, 20, 0.1 + 0.2))
        for direction in ("in", "out"):
            to.messages.append(
                TranscriptRow(
                    round_, "9f", 0, operation, "A", direction, "A", "", 10, "ab" * 32, 0.1 + 0.2
                )
            )


def test_resume_reads_all_three_files_and_drops_a_killed_round(tmp_path: Path) -> None:
    state = RunState("run", "layout", torch.zeros(0), torch.zeros(0), round=2)
    first = recorder(tmp_path)
    add_round(first, 1)
    rows = first.rows
    assert rows == (1, 2, 4)
    whole = (list(first.metrics), list(first.costs), list(first.messages))
    add_round(first, 2)
    first.write(state, [], {})
    resumed = recorder(tmp_path)
    resumed.resume(rows)
    assert (resumed.metrics, resumed.costs, resumed.messages) == whole
    assert resumed.rows == rows


def test_results_say_what_came_of_each_round(tmp_path: Path) -> None:
    facts = [{"round": 1, "sites": 3, "rings": 2, "clipped": 7}]
    state = RunState("run", "layout", torch.zeros(0), torch.zeros(0), aggregations=facts)
    recorder(tmp_path).write(state, [], {})
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["aggregator"] == {"name": "CyclicCKKS", "rounds": facts}
