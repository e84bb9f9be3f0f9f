import pytest

from datamodules.phantoms.profiles import PROFILES, REFERENCE, SHIFTS, draw_profile, profile


def test_without_shift_all_sites_are_equal() -> None:
    assert {profile(site, ()) for site in ("A", "F", "Mainz")} == {REFERENCE}


@pytest.mark.parametrize("shift", SHIFTS)
def test_one_shift_changes_one_part(shift: str) -> None:
    seen_as = profile("C", (shift,))
    for name in SHIFTS:
        expected = PROFILES["C"] if name == shift else REFERENCE
        assert getattr(seen_as, name) == getattr(expected, name)


def test_described_sites_differ_in_scanner_and_disease() -> None:
    assert len({site.scanner for site in PROFILES.values()}) == len(PROFILES)
    assert len({site.disease for site in PROFILES.values()}) == len(PROFILES)
    assert {site.annotation.extent for site in PROFILES.values()} == {
        "consolidation",
        "ground_glass",
        "halo",
    }


def test_further_sites_are_drawn_from_their_name() -> None:
    assert draw_profile("Mainz") == draw_profile("Mainz") == profile("Mainz", SHIFTS)
    assert draw_profile("Mainz") != draw_profile("Kiel")
