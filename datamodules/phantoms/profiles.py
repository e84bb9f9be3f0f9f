"""What makes one hospital's images, patients and masks differ from another's."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from datamodules.phantoms.lesions import Disease, Extent, Reader
from datamodules.phantoms.scanner import Scanner
from lightning_fl.seeds import derive_seed


@dataclass(frozen=True)
class Profile:
    """One hospital: its scanner, the disease it sees and the reader who draws its masks."""

    scanner: Scanner
    disease: Disease
    annotation: Reader


SHIFTS = ("scanner", "disease", "annotation")
"""The fields of a `Profile`, each of which can be made to differ between hospitals."""

REFERENCE = Profile(Scanner(), Disease(), Reader())
"""What all hospitals share in the fields that are not shifted."""

PROFILES = {
    # A university hospital: standard protocol, standard reader.
    "A": Profile(
        Scanner(thickness=1.5, blur=0.8, noise=25, level=-600, width=1500),
        Disease(),
        Reader("ground_glass"),
    ),
    # Intensive care: sharp kernel and a bright window; only dense parts are marked.
    "B": Profile(
        Scanner(thickness=1.0, blur=0.7, overshoot=0.9, noise=70, offset=30, level=-750, width=900),
        Disease(lesions=(2, 4), radius=(34, 52), ground_glass=-420, consolidated=1.0, core=0.6),
        Reader("consolidation"),
    ),
    # An old scanner with thick slices and a wide window; faint disease, generous outlines.
    "C": Profile(
        Scanner(thickness=8, blur=2.6, noise=12, offset=60, gain=0.94, level=-300, width=2200),
        Disease(lesions=(2, 4), radius=(26, 42), ground_glass=-600, consolidated=0.15, core=0.3),
        Reader("halo", margin=5),
    ),
    # Screening at a very low dose: small lesions, some patients without any, a dark window.
    "D": Profile(
        Scanner(thickness=2, blur=1.0, noise=110, offset=-50, level=-350, width=1100),
        Disease(healthy=0.12, lesions=(4, 7), radius=(16, 27), ground_glass=-520, consolidated=0.3),
        Reader("ground_glass"),
    ),
    # Mislabelled calibration and a soft-tissue kernel: lung nearly black, dense parts marked.
    "E": Profile(
        Scanner(thickness=5, blur=1.9, noise=18, offset=-70, gain=1.08, level=-150, width=1000),
        Disease(lesions=(1, 3), radius=(34, 50), ground_glass=-380, consolidated=1.0, core=0.8),
        Reader("consolidation", margin=2),
    ),
    # Sharp, noisy and very bright: lung in mid-grey; many lesions, marked with their halo.
    "F": Profile(
        Scanner(
            thickness=1.5, blur=0.7, overshoot=1.3, noise=50, offset=20, level=-850, width=1300
        ),
        Disease(lesions=(3, 6), radius=(24, 38), ground_glass=-560, consolidated=0.4, core=0.4),
        Reader("halo", margin=2),
    ),
}
"""The hospitals that are described by hand."""


def profile(site: str, shift: Collection[str]) -> Profile:
    """Return the hospital's profile in the fields named by `shift`, the reference in all others."""
    shifted = PROFILES[site] if site in PROFILES else draw_profile(site)
    return replace(REFERENCE, **{name: getattr(shifted, name) for name in shift})


def draw_profile(site: str) -> Profile:
    """Draw a hospital that is not described by hand; it depends on its name alone."""
    rng = np.random.default_rng(derive_seed(0, site, "profile"))
    scanner = Scanner(
        thickness=rng.uniform(1, 8),
        blur=rng.uniform(0.7, 2.6),
        overshoot=max(0.0, rng.uniform(-1.2, 1.2)),
        noise=rng.uniform(12, 100),
        offset=rng.uniform(-70, 60),
        gain=rng.uniform(0.93, 1.08),
        level=rng.uniform(-800, -200),
        width=rng.uniform(900, 2000),
    )
    fewest, smallest = int(rng.integers(1, 4)), rng.uniform(16, 32)
    disease = Disease(
        healthy=rng.uniform(0, 0.1),
        lesions=(fewest, fewest + 2),
        radius=(smallest, smallest * rng.uniform(1.5, 2.0)),
        ground_glass=rng.uniform(-600, -380),
        consolidated=rng.uniform(0.5, 1.0),
        core=rng.uniform(0.35, 0.8),
    )
    extents: tuple[Extent, ...] = ("consolidation", "ground_glass", "halo")
    return Profile(scanner, disease, Reader(extents[rng.integers(3)], margin=rng.uniform(0, 4)))
