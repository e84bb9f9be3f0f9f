"""Numbers in a site's answer that are none make it a lost site, and never end a run."""

from collections.abc import Callable
from typing import Any

import pytest

from lightning_fl.coordinator.answers import (
    check_description,
    check_final,
    check_scores,
    check_training,
    checked,
)
from lightning_fl.errors import SiteError
from lightning_fl.wire.messages import Message

NAN = float("nan")
CHOICE: dict[str, Any] = {
    **{"choice": "none", "steps": 0, "validation_gain": 0.0, "gradients": 0},
    **{"by": "validation", "candidates": {"none": 0.5}},
}
GOOD: list[tuple[Any, dict[str, Any]]] = [
    (check_description, {"samples": {"train": 5, "val": 0}, "patients": {}}),
    (check_description, {}),
    (check_training, {"samples": 3, "gradients": 9}),
    (check_training, {"curves": {"loss": 0.5, "samples": 8}, "seconds": {"fit": "00001.5"}}),
    (check_training, {"privacy": {"epsilon": 1.0, "steps": 3}}),
    (check_training, {}),
    (check_scores, {"val": {"dice": 0.5, "loss": NAN}}),
    (check_scores, {"val": {}, "undefined": True}),
    (
        check_final,
        {
            "scores": {"global": {"test": {"dice": 1.0}}, "personal": {"val": {}}},
            "personalisation": CHOICE,
            "new_hospital": {"0": {"dice": 0.5}, "2": {}},
        },
    ),
]
BAD: list[tuple[Any, dict[str, Any]]] = [
    (check_description, {"samples": {"train": "5"}}),
    (check_description, {"samples": {"train": 1.5}}),
    (check_description, {"samples": {"val": 5}}),
    (check_description, {"samples": [5]}),
    (check_training, {"samples": -1}),
    (check_training, {"samples": True}),
    (check_training, {"gradients": "9"}),
    (check_training, {"curves": {"loss": "nan"}, "seconds": {"fit": "1"}}),
    (check_training, {"curves": {"loss": 1.0}}),
    (check_training, {"curves": {"loss": 1.0}, "seconds": {"fit": "-1"}}),
    (check_training, {"curves": {"loss": 1.0}, "seconds": {"fit": "inf"}}),
    (check_training, {"privacy": {"epsilon": None}}),
    (check_scores, {}),
    (check_scores, {"val": {"dice": "NaN"}}),
    (check_scores, {"val": {"dice": [0.5]}}),
    (check_scores, {"val": {"dice": 10**400}}),
    (check_scores, {"val": {"dice": True}}),
    (check_final, {"scores": {"global": {"test": {"dice": None}}}}),
    (check_final, {"scores": {"global": {"test": 1.0}}, "personalisation": {"choice": "none"}}),
    (check_training, {"curves": {"loss": 1.0}, "seconds": {"fit": "1"}}),
    (check_final, {"scores": {}, "personalisation": CHOICE | {"choice": 3}}),
    (check_final, {"scores": {}, "personalisation": CHOICE | {"candidates": "none"}}),
    (check_final, {"scores": {}, "personalisation": CHOICE | {"candidates": {"none": "0.5"}}}),
    (check_final, {"scores": {}, "personalisation": CHOICE | {"gradients": "many"}}),
    (check_final, {"scores": {}, "personalisation": CHOICE | {"by": None}}),
    (check_final, {"scores": {}, "personalisation": CHOICE, "new_hospital": {"x": {}}}),
    (check_final, {"scores": {}, "personalisation": CHOICE | {"steps": "2"}}),
]


def answer(info: dict[str, Any]) -> Message:
    return Message("run", 1, "A", info=info)


@pytest.mark.parametrize(("check", "info"), GOOD)
def test_what_a_site_says_passes_as_it_is(check: Callable[[Any], None], info: Any) -> None:
    message, lost = answer(info), SiteError("B", "op", "lost", "gone")
    assert checked("op", {"A": message, "B": lost}, check) == {"A": message, "B": lost}


@pytest.mark.parametrize(("check", "info"), BAD)
def test_numbers_that_are_none_lose_the_site(check: Callable[[Any], None], info: Any) -> None:
    error = checked("op", {"A": answer(info)}, check)["A"]
    assert isinstance(error, SiteError)
    assert (error.site, error.kind) == ("A", "garbled")
    assert len(error.detail) < 200
