"""A round whose sums may be out is given up, and the run goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.ring.identity import SUFFIX, make
from lightning_fl.errors import SiteError
from lightning_fl.wire.channel import Channel
from tests.toy import ToyHospitals, toy_experiment, toy_run


def test_a_silent_initiator_costs_its_round_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Channel.ask

    def ask(self: Channel, op: str, messages: Any) -> Any:
        answers = original(self, op, messages)
        [round_] = {message.round for message in messages.values()} or {0}
        if op == "ring_close" and round_ == 2:
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
    assert "may have been opened" in second["given_up"]
    assert first["rings"] == third["rings"] == 1
    [lost] = results["dropped"]
    assert (lost["round"], lost["operation"]) == (2, "aggregate")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "gave no sums, so the weights stayed in" in page
    ledgers = [json.loads(file.read_text()) for file in (tmp_path / "run").rglob("ledger.json")]
    assert len(ledgers) == 4
    for ledger in ledgers:
        assert ledger["weights"]["1"] == ledger["weights"]["2"] != ledger["weights"]["3"]
