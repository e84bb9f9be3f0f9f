"""One patient seen by several hospitals: what each shift changes, and what it must not."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from datamodules.phantoms import anatomy
from datamodules.phantoms.anatomy import draw_habitus
from datamodules.phantoms.geometry import FIELD_OF_VIEW, FloatArray, Space
from datamodules.phantoms.lesions import Disease, Extent, Opacity, Reader
from datamodules.phantoms.patient import STACK, Patient, hounsfield, levels, render
from datamodules.phantoms.profiles import PROFILES, REFERENCE, Profile, profile

SIZE = 64
SEED = 11


def seen(profile: Profile, seed: int = SEED) -> npt.NDArray[np.uint8]:
    return render(Patient(seed, slices=4, size=SIZE, profile=profile))


def true_values(profile: Profile, seed: int = SEED) -> tuple[FloatArray, Opacity]:
    patient = Patient(seed, slices=4, size=SIZE, profile=profile)
    return hounsfield(patient, draw_habitus(patient.rng("habitus")), levels(4, 20.0))


@pytest.mark.parametrize("site", list(PROFILES))
def test_annotation_changes_masks_only(site: str) -> None:
    usual, other = seen(REFERENCE), seen(profile(site, ("annotation",)))
    np.testing.assert_array_equal(other[0], usual[0])
    assert np.array_equal(other[1], usual[1]) == (PROFILES[site].annotation == REFERENCE.annotation)


@pytest.mark.parametrize("site", list(PROFILES))
def test_scanner_changes_images_only(site: str) -> None:
    usual, other = seen(REFERENCE), seen(profile(site, ("scanner",)))
    np.testing.assert_array_equal(other[1], usual[1])
    assert np.abs(other[0].astype(int) - usual[0]).mean() > 0.3


def test_disease_leaves_the_anatomy_as_it_is() -> None:
    usual, few = true_values(REFERENCE)
    other, many = true_values(profile("B", ("disease",)))
    clear = (few.severity == 0) & (many.severity == 0)
    assert 0.5 < clear.mean() < 1
    np.testing.assert_array_equal(other[clear], usual[clear])
    assert many.severity.sum() > few.severity.sum()


def test_patients_without_disease_have_empty_masks() -> None:
    healthy = replace(REFERENCE, disease=Disease(healthy=1.0))
    image, mask = seen(healthy)
    assert not mask.any()
    assert image.any()


def test_every_patient_has_a_lesion_and_some_slices_have_none() -> None:
    stacks = np.array([render(Patient(seed, 8, 32, REFERENCE))[1] for seed in range(10)])
    assert stacks.any(axis=(1, 2, 3)).all()
    assert 0.4 < stacks.any(axis=(2, 3)).mean() < 0.9
    assert 0.004 < stacks.mean() < 0.04


def test_prevalence_follows_the_disease() -> None:
    rare = replace(REFERENCE, disease=Disease(healthy=0.5))
    sick = [render(Patient(seed, 4, 32, rare))[1].any() for seed in range(16)]
    assert 0.25 < np.mean(sick) < 0.75


def test_masks_of_stricter_readers_lie_inside_those_of_generous_ones() -> None:
    def mask(extent: Extent, margin: float = 0.0) -> npt.NDArray[np.bool_]:
        mask: npt.NDArray[np.uint8] = seen(replace(REFERENCE, annotation=Reader(extent, margin)))[1]
        return mask > 0

    masks = [mask("consolidation"), mask("ground_glass"), mask("halo"), mask("halo", 8.0)]
    assert masks[0].any()
    for inner, outer in pairwise(masks):
        assert not (inner & ~outer).any()
        assert inner.sum() < outer.sum()


def test_hounsfield_units_are_those_of_the_tissues() -> None:
    hu, disease = true_values(REFERENCE)
    assert hu.dtype == np.float32
    assert np.isfinite(hu).all()
    assert hu.min() > -1001
    assert 200 < hu.max() < 800
    np.testing.assert_allclose(hu[:, 0, 0], -1000)
    pure = disease.severity > 0.98
    consolidated = pure & (disease.core > 0.98)
    ground_glass = pure & (disease.core < 0.02)
    assert -50 < np.median(hu[consolidated]) < 50
    assert -600 < np.median(hu[ground_glass]) < -300


def test_lung_is_heavier_at_the_back() -> None:
    hu, _ = true_values(replace(REFERENCE, disease=Disease(healthy=1.0)))
    lung = (hu > -930) & (hu < -750)
    lung[:, :, SIZE // 2 - 8 : SIZE // 2 + 8] = False
    lung[:, : SIZE // 4] = lung[:, -SIZE // 4 :] = False
    front, back = lung.copy(), lung.copy()
    front[:, SIZE // 2 :], back[:, : SIZE // 2] = False, False
    assert front.sum() > 200
    assert -900 < np.median(hu[front]) + 15 < np.median(hu[back]) < -750


def test_lungs_take_a_fifth_of_the_image_and_are_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-FIELD_OF_VIEW / 2, FIELD_OF_VIEW / 2, (2, 4000)).astype(np.float32)
    at = Space(points[0], points[1], np.zeros(4000, dtype=np.float32))
    lung = anatomy.lungs(at, draw_habitus(rng)) > 0
    assert 0.15 < lung.mean() < 0.35
    assert abs((lung & (points[0] > 0)).sum() / lung.sum() - 0.5) < 0.1


def test_neighbouring_slices_resemble_each_other() -> None:
    image = render(Patient(SEED, 16, SIZE, REFERENCE))[0].astype(float)
    near = np.abs(image[1:] - image[:-1]).mean()
    far = np.abs(image[8:] - image[:-8]).mean()
    assert 0 < near < 0.7 * far


def test_many_slices_stay_within_the_chest() -> None:
    assert np.ptp(levels(8, 0.0)) == pytest.approx(7 * 14)
    assert np.ptp(levels(100, 0.0)) < STACK
