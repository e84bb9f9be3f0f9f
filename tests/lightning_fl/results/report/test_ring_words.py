from typing import Any

import pytest

from lightning_fl.results.report.ring_words import (
    MASKING,
    WEIGHTS,
    clipped_lines,
    clipped_words,
    restart_words,
    settings_words,
    two_site_words,
)

SETTINGS: dict[str, Any] = {
    "bits": 24,
    "masking": "pairwise",
    "weights": "samples",
    "pinned": [],
}
WIDE = [{"round": 1, "sites": 4, "rings": 1}, {"round": 2, "sites": 3, "rings": 2}]
COMPACT = [
    {"round": 1, "sites": 4, "rings": 1, "clipped": 0},
    {"round": 2, "sites": 4, "rings": 1, "clipped": 6},
    {"round": 3, "sites": 2, "rings": 3, "clipped": 4},
]


def test_settings_are_told_in_words() -> None:
    bits, masking, weights, pins = settings_words(SETTINGS, WIDE)
    assert bits == "bits 24: values are rounded to so many binary places after the point."
    assert MASKING["pairwise"] in masking
    assert WEIGHTS["samples"] in weights
    assert pins.startswith("No identities were pinned")


def test_compact_grid_is_known_by_what_it_counts() -> None:
    assert "a range for each tensor" in settings_words({**SETTINGS, "bits": 12}, COMPACT)[0]


def test_pins_are_named_where_mask_keys_are_exchanged() -> None:
    assert "of A, B." in settings_words({**SETTINGS, "pinned": ["A", "B"]}, WIDE)[-1]
    assert len(settings_words({**SETTINGS, "masking": "none"}, WIDE)) == 3


def test_settings_that_are_not_known_are_shown_all_the_same() -> None:
    words = settings_words({**SETTINGS, "weights": "by age"}, [])
    assert "weights “by age”: see the documentation." in words


@pytest.mark.parametrize("masking", ["pairwise", "initiator", "none"])
@pytest.mark.parametrize("weights", ["samples", "equal", "hidden"])
def test_every_setting_of_the_aggregator_has_words(masking: Any, weights: Any) -> None:
    from lightning_fl.aggregation import CyclicCKKS

    described = CyclicCKKS(masking=masking, weights=weights).describe()
    assert "see the documentation" not in " ".join(settings_words(described, WIDE))


def test_restarted_rings_are_told_by_round() -> None:
    assert restart_words(WIDE[:1]) == "Each round took one ring."
    assert restart_words(WIDE).endswith("again: round 2 took 2 rings and ended with 3 sites.")
    assert restart_words([]) == ""


def test_rings_of_two_are_told() -> None:
    assert two_site_words(COMPACT).endswith("that is so in round 3.")
    assert two_site_words(WIDE) == ""


def test_clipped_values_by_hand() -> None:
    # 6 + 4 of 5 values x (4 + 4 + 2) sites
    assert "next update: 10 of 50 values (20 %)." in clipped_words(COMPACT, 5)
    lines = ["round 2: 6 of 20 values (30 %)", "round 3: 4 of 10 values (40 %)"]
    assert clipped_lines(COMPACT, 5).splitlines() == lines


def test_clipped_values_without_the_size_of_an_update_have_no_share() -> None:
    assert "next update: 10 values." in clipped_words(COMPACT, 0)


def test_nothing_clipped_and_a_grid_that_never_clips_differ() -> None:
    assert clipped_words(COMPACT[:1], 5) == "No value was clipped."
    assert clipped_words(WIDE, 5) == ""
    assert clipped_lines(COMPACT[:1], 5) == ""
