"""What a monitor hears of a run: every step, and as many parts as each was said to have."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lightning_fl.aggregation import CyclicCKKS, Plain
from lightning_fl.aggregation.ring import ring_plan
from lightning_fl.wire.monitor import Monitor
from tests.lightning_fl.aggregation.hosts import join_hosts, make_hosts, random_updates
from tests.toy import toy_experiment, toy_run


@dataclass
class Step:
    operation: str
    round: int | None
    total: int | None
    unit: str
    done: int = 0


@dataclass
class Counter(Monitor):
    """Counts as a bar does."""

    steps: list[Step] = field(default_factory=list)

    def on_operation(
        self,
        *,
        operation: str,
        round_: int | None = None,
        total: int | None = None,
        unit: str = "sites",
    ) -> None:
        self.steps.append(Step(operation, round_, total, unit))

    def on_site_done(self, *, site: str, operation: str, seconds: float) -> None:
        if operation == self.steps[-1].operation:
            self.on_part_done()

    def on_part_done(self) -> None:
        self.steps[-1].done += 1


def test_each_step_of_a_run_is_told_and_counted_to_its_end(tmp_path: Path) -> None:
    counter = Counter()
    toy_run(tmp_path, toy_experiment(aggregator=Plain()), counter).start()
    outside = [step.operation for step in counter.steps if step.round is None]
    assert outside == ["describe", "personalise", "keep models", "write the report"]
    last = [step.operation for step in counter.steps if step.round == 2]
    assert last == ["train", "update", "apply", "evaluate", "load"]
    assert all(step.done == step.total for step in counter.steps if step.total is not None)


def test_a_ring_counts_its_blocks_and_not_the_answers_of_its_sites(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ring_plan, "CIPHERTEXTS_PER_BLOCK", 1)
    aggregator = CyclicCKKS()
    hosts = join_hosts(aggregator, make_hosts(aggregator, random_updates(3, 20_000)))
    hosts.channel.monitor = counter = Counter()
    hosts.mean()
    blocks = len(hosts.transport.requests("ring_close"))
    assert blocks > 1
    assert counter.steps == [
        Step(operation, 1, blocks, "blocks", blocks) for operation in ("ring", "decrypt")
    ]
