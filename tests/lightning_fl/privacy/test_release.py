from typing import Any

import numpy as np
import pytest
import torch

from lightning_fl.errors import ConfigError, NonFiniteError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.privacy.release import Release

QUIET = SiteNoise(clip=1.0, noise_multiplier=0.0, delta=1e-5, colluding=0, most=8)
LOUD = SiteNoise(clip=2.0, noise_multiplier=3.0, delta=1e-5, colluding=1, most=8)


def release(noise: SiteNoise, update: torch.Tensor, **settings: Any) -> Release:
    defaults: dict[str, Any] = {"weight": 1.0, "sites": 4}
    parts = lambda start, stop: update[start:stop]  # noqa: E731
    return Release(noise, parts, len(update), **(defaults | settings))


def test_a_long_update_is_cut_to_the_clip_in_its_own_direction() -> None:
    found = release(QUIET, torch.tensor([3.0, 0.0, -4.0])).weighted(0, 3)
    np.testing.assert_allclose(found, [0.6, 0.0, -0.8], rtol=1e-12)


def test_a_short_update_is_left_bit_for_bit() -> None:
    update = torch.rand(100, generator=torch.Generator().manual_seed(0)) / 20
    found = release(QUIET, update)
    assert np.array_equal(found.unweighted(0, 100), update.double().numpy())


def test_it_is_the_weighted_update_that_is_clipped() -> None:
    update = torch.tensor([3.0, 4.0])
    np.testing.assert_allclose(release(QUIET, update, weight=0.2).weighted(0, 2), [0.6, 0.8])
    np.testing.assert_allclose(release(QUIET, update, weight=0.1).weighted(0, 2), [0.3, 0.4])
    np.testing.assert_allclose(release(QUIET, update, weight=0.5).weighted(0, 2), [0.6, 0.8])


def test_a_clipped_update_is_no_longer_than_the_clip_after_rounding_to_a_grid() -> None:
    step = 2.0**-8
    for seed in range(20):
        update = torch.randn(400, generator=torch.Generator().manual_seed(seed))
        found = release(QUIET, update, step=step).weighted(0, 400)
        assert np.array_equal(found, np.rint(found / step) * step)
        assert 0.9 < float(np.linalg.norm(found)) <= 1.0


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_update_that_is_not_finite_cannot_be_clipped(value: float) -> None:
    with pytest.raises(NonFiniteError, match="norm is NaN or infinite"):
        release(QUIET, torch.tensor([1.0, value]))


def test_an_update_of_zeros_stays_zeros() -> None:
    assert not release(QUIET, torch.zeros(5)).weighted(0, 5).any()


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_each_sites_noise_is_its_share_of_the_sum(weight: float) -> None:
    share = 3.0 * 2.0 / np.sqrt(4 - 1)
    found = release(LOUD, torch.zeros(50_000), weight=weight)
    assert found.weighted(0, 50_000).std() == pytest.approx(share, rel=0.02)
    assert found.unweighted(0, 50_000).std() == pytest.approx(share / weight, rel=0.02)


def test_a_release_has_its_own_noise_and_keeps_it() -> None:
    one, other = release(LOUD, torch.zeros(9)), release(LOUD, torch.zeros(9))
    assert np.array_equal(one.weighted(0, 9), one.weighted(0, 9))
    assert not np.isclose(one.weighted(0, 9), other.weighted(0, 9)).any()


@pytest.mark.parametrize("sites", [1, 9])
def test_a_site_believes_no_number_of_sites_that_cannot_be(sites: int) -> None:
    message = rf"A sum of {sites} sites cannot be private here: expected more than the 1 .* most 8"
    with pytest.raises(ConfigError, match=message):
        release(LOUD, torch.zeros(3), sites=sites)


def test_what_is_left_of_the_noise() -> None:
    noise = SiteNoise(clip=1.0, noise_multiplier=2.0, delta=1e-5, colluding=1, most=8)
    assert noise.left(5, 5) == pytest.approx(2.0)
    assert noise.left(5, 5, colluding=2) == pytest.approx(2.0 * np.sqrt(3 / 4))
    assert noise.left(3, 5) == pytest.approx(2.0 * np.sqrt(2 / 4))  # two sites took theirs along
    assert noise.left(1, 5) == 0.0
