import pytest

from lightning_fl.aggregation import CyclicCKKS, Plain
from lightning_fl.audit.protection import Protection
from lightning_fl.audit.views.guesses import VIEWS

RING = CyclicCKKS(bits=20).describe()


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        (2, {"coordinator", "other_of_two", "mean_2"}),
        (3, {"initiator_pairwise", "coordinator", "neighbour", "colluders", "mean_3"}),
        (5, {"initiator_pairwise", "coordinator", "neighbour", "neighbours", "colluders"}),
    ],
)
def test_the_views_of_a_ring_depend_on_its_sites(sites: int, expected: set[str]) -> None:
    assert set(Protection(RING, sites).views()) == expected


def test_every_view_is_known() -> None:
    for masking in ("none", "initiator", "pairwise"):
        assert {*Protection(RING | {"masking": masking}, 5).views()} <= {*VIEWS}
    assert {*Protection(Plain().describe(), 8).views()} == {"plain", "plain_steps", "mean_8"}


def test_only_pairwise_masks_among_three_hide() -> None:
    assert Protection(RING, 3).hides
    assert not Protection(RING, 2).hides
    assert not Protection(RING | {"masking": "initiator"}, 3).hides
    assert not Protection(Plain().describe(), 3).hides


def test_the_words_name_who_reads_updates() -> None:
    assert "each reads the other's update" in Protection(RING, 2).words()
    assert "(`masking: initiator`)" in Protection(RING | {"masking": "initiator"}, 3).words()
    unknown = Protection({"name": "Homemade"}, 3)
    assert unknown.words() == "What Homemade hides in this run is not known to the audit."
    assert (unknown.views(), unknown.hides) == ((), False)


def test_the_ring_that_is_looked_into_is_the_runs() -> None:
    assert (Protection(RING, 7).bits, Protection(RING, 7).ring_sites) == (20, 7)
    assert Protection(RING, 2).ring_sites == 3
    assert (Protection(Plain().describe(), 90).bits, Protection({"name": "P"}, 90).ring_sites) == (
        24,
        3,
    )
