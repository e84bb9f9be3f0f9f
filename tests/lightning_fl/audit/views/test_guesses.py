import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_fl.audit import TaskGradient
from lightning_fl.audit.views.correlation import correlation
from lightning_fl.audit.views.guesses import VIEWS, Evidence, Guess, guesses
from lightning_fl.audit.views.recording import Recording
from lightning_fl.audit.views.ring_views import ciphertext_difference, data_modulus, opened
from lightning_fl.wire.messages import Message
from tests.lightning_fl.audit.rounds import attack, evidence, images, task

STEP = 2.0**-24
"""Of the ring's grid."""
NOTHING = 0.04
"""Correlation by chance: more than four standard deviations for the updates of these tests."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return evidence(tmp_path_factory.mktemp("sites"))


@pytest.fixture(scope="module")
def found(recorded: Evidence) -> dict[str, Guess]:
    return guesses(recorded)


def truth(recorded: Evidence, *sites: str) -> Tensor:
    """The mean update of some sites, as they sent it in the clear."""
    return torch.stack([recorded.clear.in_the_clear(site) for site in sites]).mean(dim=0)


def test_an_update_in_the_clear_is_the_gradient_of_the_sites_image(
    recorded: Evidence, found: dict[str, Guess]
) -> None:
    sample = images().sample(int(recorded.victim[1:]) - 1)
    gradient = TaskGradient(task())({name: value[None] for name, value in sample.items()})
    seen = attack().seen_gradient(found["plain"])
    for name, value in gradient.items():
        torch.testing.assert_close(seen[name], value, rtol=0, atol=2e-7)


@pytest.mark.parametrize("masking", ["none", "initiator"])
def test_without_pairwise_masks_the_initiator_reads_every_other_update(
    recorded: Evidence, masking: str
) -> None:
    initiator, *others = recorded.order
    for site in others:
        read = opened(recorded.rings[masking], [site], [initiator])
        torch.testing.assert_close(read, truth(recorded, site), rtol=0, atol=STEP)


def test_with_pairwise_masks_the_initiator_reads_noise(recorded: Evidence) -> None:
    initiator, *others = recorded.order
    for site in others:
        read = opened(recorded.rings["pairwise"], [site], [initiator])
        assert abs(correlation(read, truth(recorded, site))) < NOTHING
        assert float(read.abs().median()) > 100 * float(truth(recorded, site).abs().max())


def test_the_initiator_and_both_neighbours_read_the_sum_of_the_rest_alone(
    recorded: Evidence, found: dict[str, Guess]
) -> None:
    guess = found["colluders"]
    helpers = {recorded.order[0], *recorded.neighbours}
    assert len(helpers) == 3
    assert set(guess.sites) == {*recorded.order} - helpers
    assert recorded.victim in guess.sites
    expected = truth(recorded, *guess.sites)
    torch.testing.assert_close(guess.update, expected, rtol=0, atol=STEP)
    for site in guess.sites:
        read = opened(recorded.rings["pairwise"], [site], helpers)
        assert abs(correlation(read, truth(recorded, site))) < NOTHING


def test_all_others_together_read_the_last_sites_update(recorded: Evidence) -> None:
    helpers = {*recorded.order} - {recorded.victim}
    read = opened(recorded.rings["pairwise"], [recorded.victim], helpers)
    torch.testing.assert_close(read, truth(recorded, recorded.victim), rtol=0, atol=STEP)


def test_the_other_of_two_sites_reads_the_update(
    recorded: Evidence, found: dict[str, Guess]
) -> None:
    [victim] = found["other_of_two"].sites
    assert victim == recorded.means[2].order[1]
    expected = truth(recorded, victim)
    torch.testing.assert_close(found["other_of_two"].update, expected, rtol=0, atol=3 * STEP)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_published_mean_is_the_mean(
    recorded: Evidence, found: dict[str, Guess], count: int
) -> None:
    guess = found[f"mean_{count}"]
    assert len(guess.sites) == count
    torch.testing.assert_close(guess.update, truth(recorded, *guess.sites), rtol=0, atol=2 * STEP)


def test_sums_over_two_sets_of_sites_give_the_site_between_them_away(recorded: Evidence) -> None:
    """Two rings over one round's updates, the second without the last site."""
    larger, smaller = recorded.means[3], recorded.means[2]
    [between] = {*larger.order} - {*smaller.order}
    found = 3 * larger.published - 2 * smaller.published
    torch.testing.assert_close(found, truth(recorded, between), rtol=0, atol=10 * STEP)


@pytest.mark.parametrize("view", ["coordinator", "neighbour", "neighbours", "noise"])
def test_without_the_key_a_guess_has_nothing_of_the_update(
    recorded: Evidence, found: dict[str, Guess], view: str
) -> None:
    expected = truth(recorded, recorded.victim)
    assert found[view].update.shape == expected.shape
    assert abs(correlation(found[view].update, expected)) < NOTHING
    assert bool(found[view].update.isfinite().all())


def test_the_difference_of_two_ciphertexts_is_a_ciphertext(recorded: Evidence) -> None:
    """Uniform modulo the prime, which is the one SEAL uses."""
    ring = recorded.rings["pairwise"]
    centred = ciphertext_difference(ring, recorded.victim)
    assert float(centred.min()) >= -0.5
    assert float(centred.max()) < 0.5
    assert float(centred.std()) == pytest.approx(12**-0.5, rel=0.05)
    context = ring.memberships[recorded.victim].context
    [prime] = context._seal.first_context_data().parms().coeff_modulus()
    assert data_modulus(context.parameters) == int(prime.value())


def test_every_view_is_known_and_in_order(found: dict[str, Guess]) -> None:
    assert list(found) == list(VIEWS)


def test_in_a_ring_of_three_all_others_collude(tmp_path: Path) -> None:
    recorded = evidence(tmp_path, sites=3)
    found = guesses(recorded)
    assert "neighbours" not in found  # the initiator is one of them
    assert found["colluders"].sites == (recorded.victim,)


def test_without_its_initiator_nobody_opens_a_ring(recorded: Evidence) -> None:
    with pytest.raises(ValueError, match=rf"Only '{recorded.order[0]}' has the key"):
        opened(recorded.rings["none"], [recorded.victim], [recorded.order[1]])


def test_a_recording_holds_what_the_sites_said_and_who_has_the_key(recorded: Evidence) -> None:
    ring = recorded.rings["pairwise"]
    holders = [site for site, member in ring.memberships.items() if member.key is not None]
    assert holders == [ring.order[0]]
    payloads = [answer.payload for answer in ring.answers if answer.site == "S2"]
    messages = [Message.decode(payload) for payload in payloads if payload is not None]
    assert {message.sender for message in messages} == {"S2"}
    assert {answer.op for answer in ring.answers} >= {
        "ring_join",
        "ring_open",
        "ring_pass",
        "ring_close",
    }


@pytest.mark.parametrize("write", [pickle.dumps, lambda r: torch.save(r, "/dev/null")])
def test_a_recording_cannot_be_written(
    recorded: Evidence, write: Callable[[Recording], object]
) -> None:
    with pytest.raises(TypeError, match="secret key and masks; it cannot be pickled"):
        write(recorded.rings["pairwise"])


def test_a_recording_does_not_print_what_it_holds(recorded: Evidence) -> None:
    assert repr(recorded.rings["pairwise"]) == "Recording()"
