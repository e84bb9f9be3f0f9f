import numpy as np
import pytest
import torchmetrics.functional.classification as reference
from torch import tensor

from lightning_fl.audit.membership.inference import (
    advantage,
    auc,
    inference,
    loss_threshold_scores,
    ranks_within,
    tpr_at_fpr,
)
from lightning_fl.errors import ConfigError, DataError

MEMBERS = [3.0, 2.0, 2.0]
OTHERS = [2.0, 1.0]


def test_measures_by_hand() -> None:
    assert auc(MEMBERS, OTHERS) == pytest.approx((2 + 1.5 + 1.5) / 6)
    assert advantage(MEMBERS, OTHERS) == pytest.approx(1 - 0.5)  # at a threshold of 2
    assert tpr_at_fpr(MEMBERS, OTHERS, 0.0) == pytest.approx(1 / 3)
    assert tpr_at_fpr(MEMBERS, OTHERS, 0.49) == pytest.approx(1 / 3)
    assert tpr_at_fpr(MEMBERS, OTHERS, 0.5) == pytest.approx(1.0)
    assert tpr_at_fpr(MEMBERS, OTHERS, 1.0) == 1.0


def test_measures_agree_with_torchmetrics() -> None:
    generator = np.random.default_rng(0)
    inside, outside = generator.normal(0.7, 1, 150), generator.normal(0, 1, 200)
    scores = tensor(np.concatenate([inside, outside]))
    truth = tensor([1] * 150 + [0] * 200)
    probabilities = scores.sigmoid()
    assert auc(inside, outside) == pytest.approx(
        float(reference.binary_auroc(probabilities, truth))
    )
    false, true, _ = reference.binary_roc(probabilities, truth)
    assert advantage(inside, outside) == pytest.approx(float((true - false).max()))
    for rate in (0.01, 0.1):
        assert tpr_at_fpr(inside, outside, rate) == pytest.approx(float(true[false <= rate].max()))


def test_a_worse_than_random_attack_has_no_advantage() -> None:
    assert advantage([0.0, 0.1], [1.0, 2.0]) == 0.0
    assert auc([0.0, 0.1], [1.0, 2.0]) == 0.0


def test_a_low_loss_is_a_high_score() -> None:
    assert loss_threshold_scores([0.1, 2.0]).tolist() == [-0.1, -2.0]


def test_the_intervals_cover_a_known_area_about_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        found = inference(
            generator.normal(0, 1, 40), generator.normal(0, 1, 40), resamples=200, seed=seed
        )
        low, high = found.intervals["auc"]
        covered += low <= 0.5 <= high
    assert 51 <= covered <= 60  # 95 % of 60 is 57


def test_an_inference_says_how_many_there_were_and_repeats() -> None:
    found = inference([2.0, 3.0, 4.0, 5.0], [0.0, 1.0], resamples=50)
    assert {*found.values} == {*found.intervals} == {"auc", "advantage", "tpr@0.01", "tpr@0.1"}
    assert (found.members, found.non_members, found.detected) == (4, 2, True)
    assert found == inference([2.0, 3.0, 4.0, 5.0], [0.0, 1.0], resamples=50)
    assert not inference([0.0, 1.0], [0.0, 1.0], resamples=50).detected


def test_ranks_within_groups_forget_how_groups_differ() -> None:
    """Group A has far larger scores; its one member ranks first of two, as in group B."""
    ranks = ranks_within([10.0, 9.0, 2.0, 1.0, 1.0], ["A", "A", "B", "B", "B"])
    assert ranks.tolist() == pytest.approx([0.75, 0.25, 2.5 / 3, 1 / 3, 1 / 3])
    assert auc(ranks[[0, 2]], ranks[[1, 3, 4]]) == 1
    assert auc([10.0, 2.0], [9.0, 1.0, 1.0]) < 1


@pytest.mark.parametrize(
    ("members", "others", "message"),
    [
        ([], [1.0], "scores of members without NaN, but got shape \\(0,\\)"),
        ([1.0], [], "scores of non-members"),
        ([1.0, float("nan")], [1.0], "shape \\(2,\\) with 1 NaN"),
        ([[1.0]], [1.0], "shape \\(1, 1\\)"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(
    members: list[float], others: list[float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        auc(members, others)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"false-positive rate between 0 and 1, but got 1.5"):
        tpr_at_fpr([1.0], [0.0], 1.5)
    with pytest.raises(ConfigError, match="`resamples` to be at least 1, but got 0"):
        inference([1.0], [0.0], resamples=0)
