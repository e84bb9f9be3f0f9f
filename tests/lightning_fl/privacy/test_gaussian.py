import numpy as np
import scipy.stats

from lightning_fl.privacy.gaussian import gaussian

KEY = bytes(range(32))


def test_numbers_are_standard_normal() -> None:
    found = gaussian(KEY, 0, 200_001)
    assert found.shape == (200_001,)
    assert scipy.stats.kstest(found, "norm").pvalue > 0.001  # the key is fixed
    assert abs(np.corrcoef(found[:100_000], found[100_001:])[0, 1]) < 0.02


def test_the_same_key_and_start_give_the_same_numbers_and_others_do_not() -> None:
    assert np.array_equal(gaussian(KEY, 5, 10), gaussian(KEY, 5, 10))
    assert not np.isclose(gaussian(KEY, 5, 10), gaussian(KEY, 6, 10)).any()
    assert not np.isclose(gaussian(KEY, 5, 10), gaussian(bytes(32), 5, 10)).any()
