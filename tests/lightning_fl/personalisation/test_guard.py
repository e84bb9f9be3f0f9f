"""The rule of choice, on numbers alone."""

import math

import pytest

from lightning_fl.personalisation.guard import choose, means_over_folds
from lightning_fl.training.evaluation import Evaluation

DICE = Evaluation()
LOSS = Evaluation("loss", lower_is_better=True)
NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({"none": 0.5, "a": 0.6, "b": 0.7}, "b"),
        ({"none": 0.5, "a": 0.4, "b": 0.3}, "none"),
        ({"none": 0.5, "a": 0.5, "b": 0.5}, "none"),  # strictly better, or nothing
        ({"none": 0.5, "a": 0.6, "b": 0.6}, "a"),  # of equal scores the first
        ({"none": 0.5, "a": NAN, "b": 0.4}, "none"),
        ({"none": 0.5, "a": NAN, "b": 0.6}, "b"),
        ({"none": NAN, "a": NAN, "b": 0.1}, "b"),
        ({"none": NAN, "a": NAN}, "none"),
    ],
)
def test_the_best_wins_and_nan_never_does(scores: dict[str, float], chosen: str) -> None:
    assert choose(scores, ["none"], 0.0, DICE) == chosen
    losses = {name: 1 - score for name, score in scores.items()}
    assert choose(losses, ["none"], 0.0, LOSS) == chosen


def test_a_candidate_must_gain_more_than_the_margin() -> None:
    scores = {"none": 0.50, "a": 0.54}
    assert choose(scores, ["none"], 0.05, DICE) == "none"
    assert choose(scores, ["none"], 0.03, DICE) == "a"
    losses = {"none": 0.50, "a": 0.46}
    assert choose(losses, ["none"], 0.05, LOSS) == "none"
    assert choose(losses, ["none"], 0.03, LOSS) == "a"


def test_the_margin_does_not_keep_a_site_from_its_own_or_local_model() -> None:
    scores = {"none": 0.50, "own": 0.51, "local": 0.52, "a": 0.54}
    references = ["none", "own", "local"]
    assert choose(scores, references, 0.05, DICE) == "local"
    assert choose(scores, references, 0.01, DICE) == "a"


def test_the_best_of_several_within_reach_of_the_margin_wins() -> None:
    assert choose({"none": 0.5, "a": 0.56, "b": 0.57}, ["none"], 0.05, DICE) == "b"


def test_folds_count_by_patients_and_one_nan_spoils_a_candidate() -> None:
    means = means_over_folds([(3, {"a": 0.4, "b": 0.4}), (1, {"a": 0.8, "b": NAN})])
    assert means == pytest.approx({"a": 0.5, "b": NAN}, nan_ok=True)


def test_a_fold_without_a_score_for_anyone_is_left_out() -> None:
    nothing = (7, {"a": NAN, "b": NAN})
    means = means_over_folds([(3, {"a": 0.4, "b": 0.2}), nothing])
    assert means == pytest.approx({"a": 0.4, "b": 0.2})
    assert all(map(math.isnan, means_over_folds([nothing]).values()))
