"""Both attacks on models that learnt 24 samples by heart, and on untrained ones."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset

from lightning_fl.audit.membership.inference import inference, loss_threshold_scores
from lightning_fl.audit.membership.lira import halves, offline_scores
from lightning_fl.audit.membership.sample_losses import patient_losses, sample_losses, site_losses
from lightning_fl.errors import ConfigError, DataError
from tests.toy import ToyHospitals, ToyModule, toy_data

SAMPLES = 48
CANDIDATES = toy_data(SAMPLES, seed=5)
MEMBERS = list(range(SAMPLES // 2))


def overfitted(dataset: Dataset[Any], steps: int = 400) -> ToyModule:
    torch.manual_seed(0)
    module = ToyModule(width=64)
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=SAMPLES)))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(module.loss(batch))
        optimizer.step()
    return module


@pytest.fixture(scope="module")
def losses() -> np.ndarray[Any, Any]:
    return sample_losses(overfitted(Subset(CANDIDATES, MEMBERS)), CANDIDATES)


def test_the_loss_threshold_detects_an_overfitted_model(losses: Any) -> None:
    scores = loss_threshold_scores(losses)
    found = inference(scores[: SAMPLES // 2], scores[SAMPLES // 2 :])
    assert found.detected
    assert found.values["auc"] > 0.8
    assert found.values["tpr@0.1"] > 0.3


def coins(scores: Any, splits: int = 30) -> int:
    """For how many random splits into two halves 0.5 lies in the interval of the AUC."""
    covered = 0
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(SAMPLES)
        inside, outside = scores[order[: SAMPLES // 2]], scores[order[SAMPLES // 2 :]]
        low, high = inference(inside, outside, resamples=200).intervals["auc"]
        covered += low <= 0.5 <= high
    return covered


def test_an_untrained_model_is_a_coin_whomever_one_takes_for_members() -> None:
    torch.manual_seed(3)
    scores = loss_threshold_scores(sample_losses(ToyModule(), CANDIDATES))
    assert coins(scores) >= 24  # 95 % of 30 is 28.5


def test_lira_detects_the_overfitted_model_and_not_the_untrained_one(losses: Any) -> None:
    inside = halves(SAMPLES, 4)
    halved = [Subset(CANDIDATES, np.flatnonzero(members).tolist()) for members in inside]
    shadows = np.stack([sample_losses(overfitted(half, 200), CANDIDATES) for half in halved])
    scores = offline_scores(losses, shadows, inside)
    assert inference(scores[: SAMPLES // 2], scores[SAMPLES // 2 :]).values["auc"] > 0.8
    torch.manual_seed(3)
    untrained = offline_scores(sample_losses(ToyModule(), CANDIDATES), shadows, inside)
    assert coins(untrained) >= 24


def test_scores_by_hand() -> None:
    shadows = np.exp([[1.0, 4.0], [3.0, 4.0], [9.0, 6.0], [9.0, 2.0]])
    inside = [[False, True], [False, False], [True, False], [True, False]]
    # unseen: 1 and 3 (mean 2), and 4, 6, 2 (mean 4); variance (2 + 8) / (1 + 2)
    found = offline_scores(np.exp([0.0, 5.0]), shadows, inside)
    np.testing.assert_allclose(found, np.array([2.0, -1.0]) / np.sqrt(10 / 3))


def test_each_candidate_is_unseen_by_half_of_the_shadow_models() -> None:
    inside = halves(7, 6)
    assert inside.shape == (6, 7)
    assert inside.sum(axis=0).tolist() == [3] * 7
    assert len({tuple(row) for row in inside.tolist()}) > 2


def test_shadow_models_that_are_too_few_or_do_not_fit_are_refused() -> None:
    for shadows in (2, 5):
        with pytest.raises(ConfigError, match=f"at least 4, but got {shadows}"):
            halves(10, shadows)
    with pytest.raises(DataError, match=r"\(2,\), \(1, 3\) and \(1, 3\)"):
        offline_scores([1.0, 1.0], [[1.0] * 3], [[False] * 3])
    with pytest.raises(DataError, match="unseen by at least 2 shadow models, but one is by 1"):
        offline_scores([1.0], [[1.0], [1.0]], [[False], [True]])


def test_a_sample_is_scored_by_itself_and_the_model_is_left_as_it_was() -> None:
    module = ToyModule(batch_norm=True)
    before = copy.deepcopy(module.state_dict())
    found = sample_losses(module, Subset(CANDIDATES, [0, 1]))
    module.eval()
    expected = [float(module.loss(tuple(t[None] for t in CANDIDATES[i]))) for i in (0, 1)]
    assert found.tolist() == pytest.approx(expected)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_patients_have_the_mean_of_their_samples_and_validation_is_left_out() -> None:
    data = ToyHospitals().for_site("A", 0)
    torch.manual_seed(0)
    module = ToyModule()
    members, others = site_losses(module, data)
    split = data.split("A")
    assert (list(members), list(others)) == (list(split.train), list(split.test))
    samples = sample_losses(module, data.dataset("A", [split.test[0]], augment=False))
    assert len(samples) == 3
    assert others[split.test[0]] == pytest.approx(float(samples.mean()))
    assert patient_losses(module, data, split.test) == others


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(DataError, match="at least one sample"):
        sample_losses(ToyModule(), Subset(CANDIDATES, []))
