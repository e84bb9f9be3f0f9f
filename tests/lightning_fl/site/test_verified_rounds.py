"""A site takes the weights that it can work out or that others vouch for, and no others."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_fl.aggregation import CyclicCKKS, Plain
from lightning_fl.aggregation.ring.identity import SUFFIX, Identity, make
from lightning_fl.aggregation.ring.ring_settings import Bounds
from lightning_fl.algorithms import FedAvg, Scaffold
from lightning_fl.algorithms.server import ServerAdam, ServerMomentum
from lightning_fl.errors import ConfigError
from lightning_fl.site.global_weights import attestation
from lightning_fl.site.ledger import Fingerprint
from lightning_fl.site.terms import SiteTerms
from lightning_fl.training.layout import vector_digest
from lightning_fl.wire.messages import MessageError
from tests.lightning_fl.site.lab import SITES, Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# ---------------------------------------------------------------------- the first weights


def test_first_weights_that_the_settings_do_not_give_are_refused(lab: Lab) -> None:
    with pytest.raises(MessageError, match="are not those of the settings and the seed"):
        lab.load("A", 0, lab.imprint())
    one_value = lab.state.weights.clone()
    one_value[0] += 1e-3
    with pytest.raises(MessageError, match=r"'net\.0\.weight' differs"):
        lab.load("A", 0, one_value)
    lab.load("A", 0, lab.state.weights)


def test_first_weights_may_differ_in_their_last_bits_but_only_once(lab: Lab) -> None:
    """Another processor may round them otherwise; then all sites have those that were sent."""
    near = torch.nextafter(lab.state.weights, torch.full_like(lab.state.weights, 9.0))
    assert lab.load("A", 0, near).info["weights"] == vector_digest(near)
    with pytest.raises(MessageError, match="A round has one outcome"):
        lab.load("A", 0, lab.state.weights)


def test_first_weights_of_another_run_need_the_approval_of_the_hospital(lab: Lab) -> None:
    weights = lab.imprint()
    site = lab.sites["A"]
    digest = vector_digest(weights)
    with pytest.raises(MessageError, match=digest):
        lab.load("A", 0, weights)
    vars(site.setup.terms)["first_weights"] = (digest,)
    lab.load("A", 0, weights)


# ---------------------------------------------------------------------- later weights


@pytest.mark.parametrize(
    "algorithm",
    [FedAvg(), Scaffold(), FedAvg(server=ServerAdam()), FedAvg(server=ServerMomentum())],
)
def test_sites_work_the_weights_of_each_round_out_bit_for_bit(
    tmp_path: Path, algorithm: Any
) -> None:
    lab = Lab(tmp_path, algorithm=algorithm).rounds(2)
    for site in lab.sites.values():
        assert torch.equal(site.state.store.weights(2), lab.state.weights)


def test_a_mean_that_the_initiator_has_not_signed_is_refused(lab: Lab) -> None:
    mean, outcome = lab.begin().train()
    proof = outcome["proof"]
    forged = mean.clone()
    forged[0] += 1e-6
    own = Identity(lab.folder / f"A{SUFFIX}").sign(("mean",))
    lies: list[dict[str, Any]] = [
        {"share": 0.5, "proof": proof},
        {"share": 1.0, "proof": proof | {"ring": "another"}},
        {"share": 1.0, "proof": proof | {"order": proof["order"][::-1]}},
        {"share": 1.0, "proof": proof | own},
        {"share": 1.0, "proof": {}},
        {"share": 1.0, "proof": proof | {"signature": "00" * 64}},
    ]
    for lie in lies:
        with pytest.raises(MessageError):
            lab.apply("B", 1, mean, **lie)
    with pytest.raises(MessageError, match="is not signed by the identity"):
        lab.apply("B", 1, forged, share=1.0, proof=proof)
    with pytest.raises(MessageError, match="has not got the weights of round 1"):
        lab.apply("B", 2, mean, share=1.0, proof=proof)
    shares: list[Any] = [None, "1", 1, {}]
    for share in shares:
        with pytest.raises(MessageError, match="a share and a proof"):
            lab.apply("B", 1, mean, share=share, proof=proof)
    lab.advance()


def test_the_mean_of_a_round_is_refused_in_the_next(lab: Lab) -> None:
    mean, outcome = lab.begin().train()
    lab.advance()
    with pytest.raises(MessageError):
        lab.apply("B", 2, mean, **outcome)


def test_a_round_has_one_mean(lab: Lab) -> None:
    """A second ring over the same sites gives the same mean; any other outcome is refused."""
    mean, _ = lab.begin().train()
    again, outcome = lab.train()
    assert torch.equal(mean, again)
    first = lab.state.weights
    lab.advance()
    lab.load("B", 0, first)  # as a coordinator does that goes on from its last checkpoint
    lab.apply("B", 1, again, **outcome)


@pytest.mark.parametrize("claim", [{"given_up": True}, {}, {"share": 1.0, "proof": {}}])
def test_no_round_passes_without_its_mean(lab: Lab, claim: dict[str, Any]) -> None:
    """Else the next ring has updates of the same weights, and may leave a site out.

    The difference of the two sums would be near that site's update.
    """
    lab.begin().train()
    still = torch.zeros_like(lab.state.weights)
    for site in SITES:
        with pytest.raises(MessageError):
            lab.ask(site, "apply", 1, info=claim)
        with pytest.raises(MessageError):
            lab.apply(site, 1, still, **claim)
        with pytest.raises(MessageError):
            lab.ask(site, "train", 2)


@pytest.mark.parametrize("round_", [1, 2])
def test_whole_weights_of_a_round_that_is_new_to_a_site_are_refused(lab: Lab, round_: int) -> None:
    lab.begin()
    with pytest.raises(MessageError, match="if 2 other sites have signed them, but got 0"):
        lab.load("A", round_, lab.imprint())


def test_a_site_that_was_away_takes_weights_that_two_others_have_signed(lab: Lab) -> None:
    lab.rounds(2)
    newcomer = lab.sites["D"]
    newcomer.ledger.file.unlink()
    lab.restart()
    signed = lab.state.attested["2"].signed
    assert set(signed) == set(SITES)
    cases: list[dict[str, Any]] = [
        {},
        {"A": signed["A"]},
        {"D": signed["D"], "A": signed["A"]},  # its own counts for nothing
        {"A": signed["A"], "B": signed["A"]},
        {"A": signed["A"], "E": signed["B"]},
        {"A": signed["A"], "B": {"signature": "00"}},
    ]
    for attested in cases:
        with pytest.raises(MessageError, match="if 2 other sites have signed them"):
            lab.load("D", 2, lab.state.weights, attested=attested)
    with pytest.raises(MessageError, match="if 2 other sites have signed them"):
        lab.load("D", 2, lab.imprint(), attested=signed)
    with pytest.raises(MessageError, match="if 2 other sites have signed them"):
        lab.load("D", 1, lab.state.weights, attested=signed)
    lab.load("D", 2, lab.state.weights, attested={"A": signed["A"], "C": signed["C"]})
    lab.broadcast.standing = dict.fromkeys(SITES, 2)
    lab.train()
    lab.advance()


def test_signatures_under_weights_of_another_run_count_for_nothing(lab: Lab) -> None:
    lab.begin()
    fingerprint = Fingerprint(vector_digest(lab.imprint()), "")
    attested = {
        site: Identity(lab.folder / f"{site}{SUFFIX}").sign(attestation("another", 2, fingerprint))
        for site in "BC"
    }
    with pytest.raises(MessageError, match="but got 0 signatures"):
        lab.load("A", 2, lab.imprint(), attested=attested)


def test_a_site_that_was_away_gets_what_the_server_optimiser_remembers(tmp_path: Path) -> None:
    lab = Lab(tmp_path, algorithm=FedAvg(server=ServerAdam())).rounds(2)
    lab.sites["D"].ledger.file.unlink()
    lab.restart()
    lab.broadcast.standing = dict.fromkeys("ABC", 2)
    forged = {name: value + 1 for name, value in lab.state.server.items()}
    vector = torch.cat([lab.state.weights, *(forged[name] for name in sorted(forged))])
    known = lab.state.attested["2"]
    names = sorted(forged)
    with pytest.raises(MessageError, match="is not what `memory` digests"):
        lab.load("D", 2, vector, server=names, memory=known.memory, attested=known.signed)
    lab.broadcast.load(lab.state, {"D": 2})
    lab.train()
    lab.advance()
    assert torch.equal(lab.sites["D"].state.store.weights(3), lab.state.weights)


def test_weights_without_what_the_server_remembers_do_for_the_end_but_for_no_round(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path, algorithm=FedAvg(server=ServerAdam())).rounds(1)
    lab.state.best_weights = lab.state.weights
    lab.broadcast.load(lab.state, {"D": 1}, best=True)
    assert not lab.state.dropped
    mean, outcome = lab.train()
    with pytest.raises(MessageError, match="has not got what the server optimiser remembers"):
        lab.apply("D", 2, mean, **outcome)


def test_sites_that_start_from_other_weights_do_not_close_a_ring(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where a site's own check were gone, the weights are in the keys of the masks."""
    monkeypatch.setattr("lightning_fl.site.global_weights.GlobalWeights._check_first", lambda *_: 0)
    lab.load("A", 0, lab.imprint())
    for site in "BCD":
        lab.load(site, 0, lab.state.weights)
    with pytest.raises(Exception, match=r"ring membership .* is not signed|add up"):
        lab.train()


def test_sites_refuse_a_mean_that_no_bounded_updates_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = {site: make(tmp_path / f"{site}{SUFFIX}") for site in SITES}
    ring = CyclicCKKS(pins=pins, identities=str(tmp_path), bounds=Bounds(norm=0.01))
    (tmp_path / "lab").mkdir()
    lab = Lab(tmp_path / "lab", aggregator=ring).rounds(1)  # sites that keep to the bound
    monkeypatch.setattr("lightning_fl.aggregation.ring.contribution.norm_of", lambda *_: 0.0)
    mean, outcome = lab.train()
    with pytest.raises(MessageError, match="some site has sent more"):
        lab.apply("B", 2, mean, **outcome)


# ---------------------------------------------------------------------- terms


@pytest.mark.parametrize("aggregator", [Plain(), CyclicCKKS()], ids=["plain", "without pins"])
def test_a_hospital_that_verifies_takes_part_in_no_run_without_signatures(
    tmp_path: Path, aggregator: Any
) -> None:
    lab = Lab(tmp_path, aggregator=aggregator)
    vars(lab.sites["A"].setup)["terms"] = SiteTerms(verified=True)
    with pytest.raises(ConfigError, match="cannot verify the weights"):
        lab.ask("A", "describe", 0)


# ---------------------------------------------------------------------- once, and in order


def test_a_round_is_trained_once_and_asked_again_gives_the_same(lab: Lab) -> None:
    lab.begin()
    first = lab.ask("A", "train", 1)
    update = lab.sites["A"].state.store.update(1, 0, 9).clone()
    lab.restart()
    again = lab.ask("A", "train", 1)
    assert again.info == first.info
    assert torch.equal(lab.sites["A"].state.store.update(1, 0, 9), update)


@pytest.mark.parametrize("round_", [0, 2, 4, 5, 10**6])
def test_a_round_that_is_not_due_is_not_trained(lab: Lab, round_: int) -> None:
    lab.begin()
    with pytest.raises(MessageError, match=r"does not train in round|has not got the weights"):
        lab.ask("A", "train", round_)


def test_a_site_that_is_not_drawn_does_not_train(tmp_path: Path) -> None:
    lab = Lab(tmp_path, sites_per_round=3).begin()
    [left_out] = {*SITES} - {*lab.run.blueprint.plan.chosen(1)}
    with pytest.raises(MessageError, match="does not train in round 1"):
        lab.ask(left_out, "train", 1)


def test_scores_of_a_round_are_told_once(lab: Lab) -> None:
    """Answers that repeat tell nothing new, whatever weights a coordinator would like scored."""
    lab.rounds(1)
    first = lab.ask("A", "evaluate", 1).info
    lab.restart()
    assert lab.ask("A", "evaluate", 1).info == first
    with pytest.raises(MessageError, match="A round has one outcome"):
        lab.load("A", 1, lab.imprint())
    assert lab.ask("A", "evaluate", 1).info == first


def test_a_model_is_personalised_once(lab: Lab) -> None:
    lab.rounds(1)
    first = lab.ask("A", "personalise", 1).info
    assert lab.ask("A", "personalise", 1).info == first
    lab.train()
    lab.advance()
    with pytest.raises(MessageError, match="has personalised the model of round 1"):
        lab.ask("A", "personalise", 2)


def test_a_site_that_has_refused_too_often_leaves_the_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_fl.site.ledger.MOST_REFUSALS", 3)
    monkeypatch.setattr("lightning_fl.site.site.MOST_REFUSALS", 3)
    lab.begin()
    for _ in range(3):
        with pytest.raises(MessageError, match="does not train"):
            lab.ask("A", "train", 99)
    lab.restart()
    with pytest.raises(MessageError, match="has refused 3 messages and has left run"):
        lab.ask("A", "train", 1)


def test_a_site_describes_itself_so_often_and_no_more(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_fl.site.ledger.MOST_STARTS", 1)
    lab.ask("A", "describe", 0)
    with pytest.raises(MessageError, match="has been started 1 times"):
        lab.ask("A", "describe", 0)
