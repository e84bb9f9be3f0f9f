import json

import numpy as np
import pytest

from lightning_fl.audit.membership.inference import auc, inference
from lightning_fl.audit.membership.model_inference import ModelInference


def judged(members: list[float], others: list[float]) -> ModelInference:
    return ModelInference("personal", "A", "loss threshold", inference(members, others))


def test_the_interval_of_a_coin_is_where_random_scores_lie() -> None:
    low, high = judged([0.0] * 12, [0.0] * 8).coin
    generator = np.random.default_rng(0)
    drawn = [auc(generator.normal(size=12), generator.normal(size=8)) for _ in range(4000)]
    inside = np.mean([low <= value <= high for value in drawn])
    assert inside == pytest.approx(0.95, abs=0.02)


def test_a_model_that_tells_all_apart_is_detected() -> None:
    found = judged([float(n) for n in range(10, 20)], [float(n) for n in range(10)])
    assert found.detected
    assert found.words == "Gives training patients away."


def test_three_patients_prove_nothing_even_if_all_agree() -> None:
    """The bootstrap of a perfect AUC has no width, and 1 of 10 coins is as good with 3 and 2."""
    found = judged([5.0, 6.0, 7.0], [1.0, 2.0])
    assert found.result.detected
    assert not found.detected
    assert found.words == "So few patients that no result could be told from a coin."


def test_what_is_not_seen_has_its_size() -> None:
    found = judged([float(n) for n in range(1, 20, 2)], [float(n) for n in range(0, 20, 2)])
    assert found.words == "Not told from a coin; an AUC above 0.76 would be."


def test_larger_losses_of_training_patients_are_no_leak() -> None:
    found = judged([float(n) for n in range(10)], [float(n) for n in range(10, 20)])
    assert not found.detected
    assert found.words.startswith("Below what a coin reaches: by chance")


def test_a_record_is_json() -> None:
    record = json.loads(json.dumps(judged([2.0, 3.0], [1.0, 2.0]).record()))
    assert (record["members"], record["auc"]) == (2, 0.875)
    assert len(record["intervals"]["tpr@0.1"]) == 2
