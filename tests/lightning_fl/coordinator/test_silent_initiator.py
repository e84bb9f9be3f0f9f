"""An initiator that is lost while it opens its ring costs what any lost site costs."""

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.ring.identity import SUFFIX, make
from lightning_fl.errors import SiteError
from lightning_fl.wire.channel import Channel
from tests.toy import ToyHospitals, toy_experiment, toy_run


def test_a_silent_initiator_is_left_out_of_its_round_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Channel.ask
    silent: list[str] = []

    def ask(self: Channel, op: str, messages: Any) -> Any:
        answers = original(self, op, messages)
        [round_] = {message.round for message in messages.values()} or {0}
        if op == "ring_close" and round_ == 2 and not silent:
            silent.extend(answers)
        if op == "ring_close" and round_ == 2 and [*answers] == silent:
            return {site: SiteError(site, op, "timeout", "no answer") for site in answers}
        return answers

    monkeypatch.setattr(Channel, "ask", ask)
    pins = {site: make(tmp_path / f"{site}{SUFFIX}") for site in "ABCD"}
    aggregator = CyclicCKKS(pins=pins, identities=str(tmp_path))
    data = ToyHospitals(dict.fromkeys("ABCD", 6))
    experiment = toy_experiment(data=data, aggregator=aggregator, rounds=3)
    results = toy_run(tmp_path / "run", experiment, report=True).start()
    assert results["rounds"] == 3
    first, second, third = results["aggregator"]["rounds"]
    assert [facts["rings"] for facts in (first, second, third)] == [1, 2, 1]
    assert second["sites"] == 3
    [lost] = results["dropped"]
    assert (lost["round"], [lost["site"]]) == (2, silent)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "round 2 took 2 rings and ended with 3 sites" in page
    ledgers = [json.loads(file.read_text()) for file in (tmp_path / "run").rglob("ledger.json")]
    assert len(ledgers) == 4
    for ledger in ledgers:
        assert len({ledger["weights"][str(round_)][0] for round_ in range(4)}) == 4
