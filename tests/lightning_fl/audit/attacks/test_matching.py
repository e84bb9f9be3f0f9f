from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_fl.audit import (
    HiddenLabel,
    HiddenMask,
    Known,
    LocalSteps,
    Matching,
    Reconstruction,
    TaskGradient,
    dlg,
    image_scores,
    invert_gradient,
)
from lightning_fl.audit.attacks.floor import flat_guess, random_guess
from lightning_fl.audit.attacks.matching import (
    Variables,
    cosine_distance,
    squared_distance,
    total_variation,
)
from lightning_fl.errors import ConfigError, DataError
from models import Segmentation
from tests.lightning_fl.audit.victims import lenet_classifier, pictures

SHAPE = (1, 1, 16, 16)
LABEL = Known("label", torch.tensor([1]))


def _problem(seed: int = 0) -> Matching:
    gradient = TaskGradient(lenet_classifier(seed))
    return Matching(gradient, gradient({"image": pictures(), "label": LABEL.value}), SHAPE, LABEL)


def test_squared_distance_is_relative() -> None:
    found, seen = {"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([1.0, 4.0])}
    assert squared_distance(found, seen).item() == pytest.approx(4 / 17)


def test_cosine_distance_of_a_right_angle_is_one_and_of_the_opposite_two() -> None:
    seen = {"a": torch.tensor([1.0]), "b": torch.tensor([0.0])}
    cases = {(3.0, 0.0): 0.0, (0.0, 2.0): 1.0, (-1.0, 0.0): 2.0, (0.0, 0.0): 1.0}
    for (a, b), expected in cases.items():
        found = {"a": torch.tensor([a]), "b": torch.tensor([b])}
        assert cosine_distance(found, seen).item() == pytest.approx(expected)


def test_total_variation_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1.0], [0.0, 4.0]]]])
    # across: |1|, |4|; down: |0|, |3|
    assert total_variation(image).item() == pytest.approx(2.5 + 1.5)


def test_dlg_finds_image_and_label_together() -> None:
    gradient = TaskGradient(lenet_classifier())
    seen = gradient({"image": pictures(), "label": torch.tensor([1])})
    found = dlg(Matching(gradient, seen, SHAPE, HiddenLabel(2)), iterations=100)
    assert found.target.tolist() == [1]
    assert image_scores(found.images, pictures()).psnr > 20


def test_two_images_come_back_in_any_order() -> None:
    gradient, labels = TaskGradient(lenet_classifier()), torch.tensor([0, 1])
    seen = gradient({"image": pictures(2), "label": labels})
    problem = Matching(gradient, seen, (2, 1, 16, 16), Known("label", labels))
    found = dlg(problem, iterations=120, restarts=1)
    assert image_scores(found.images, pictures(2)).psnr > 20


def test_several_local_steps_are_inverted_by_simulating_them() -> None:
    gradient = TaskGradient(lenet_classifier())
    steps = LocalSteps(gradient, lr=0.5, steps=3)
    seen = steps({"image": pictures(), "label": LABEL.value})
    found = dlg(Matching(steps, seen, SHAPE, LABEL), iterations=80, restarts=1)
    assert image_scores(found.images, pictures()).psnr > 20


def test_inverting_gradients_finds_the_image_from_the_direction_alone() -> None:
    problem = _problem()
    scaled = {name: 7 * value for name, value in problem.seen.items()}
    problem = Matching(problem.simulate, scaled, SHAPE, LABEL)
    found = invert_gradient(problem, iterations=200, tv=1e-5)
    assert image_scores(found.images, pictures()).psnr > 20


def test_a_noise_gradient_gives_no_image() -> None:
    problem = _problem()
    generator = torch.Generator().manual_seed(1)
    seen = {
        name: torch.randn(value.shape, generator=generator) * value.square().mean().sqrt()
        for name, value in problem.seen.items()
    }
    found = dlg(Matching(problem.simulate, seen, SHAPE, LABEL), iterations=50, restarts=1)
    grey = image_scores(flat_guess(SHAPE), pictures()).psnr
    assert image_scores(found.images, pictures()).psnr < grey + 1


def test_random_images_are_uniform_in_their_range_and_flat_ones_its_middle() -> None:
    found = random_guess((4, 1, 50, 50), seed=0, values=(-1, 3))
    assert found.min() >= -1
    assert found.max() <= 3
    assert found.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(flat_guess((2, 2), values=(-1, 3)), torch.ones(2, 2))


def _segmentation() -> TaskGradient:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(16, 16, 5, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(16, 4, 1),
        nn.PixelShuffle(2),
    )
    for parameter in net.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    return TaskGradient(Segmentation(net))


def test_a_segmentation_image_comes_back_when_the_mask_is_known() -> None:
    gradient, mask = _segmentation(), (pictures()[:, 0] > 0.5).long()
    seen = gradient({"image": pictures(), "mask": mask})
    found = dlg(Matching(gradient, seen, SHAPE, Known("mask", mask)), iterations=200, restarts=1)
    assert torch.equal(found.target, mask)
    assert image_scores(found.images, pictures()).psnr > 20


def test_a_hidden_mask_is_matched_together_with_the_image() -> None:
    gradient, mask = _segmentation(), (pictures()[:, 0] > 0.5).long()
    problem = Matching(
        gradient, gradient({"image": pictures(), "mask": mask}), SHAPE, HiddenMask((16, 16))
    )
    before = problem.objective(problem.start(0), squared_distance).item()
    found = dlg(problem, iterations=60, restarts=1)
    assert found.target.shape == mask.shape
    assert found.target.dtype == torch.int64
    assert found.objective < 0.1 * before


def test_the_start_with_the_smallest_objective_is_kept() -> None:
    problem, objectives = _problem(), iter([3.0, float("nan"), 1.0, 2.0])
    starts: list[Tensor] = []

    def attempt(variables: Variables) -> float:
        starts.append(variables.images.detach().clone())
        return next(objectives)

    found = problem.best(attempt, restarts=4, seed=0, good_enough=0)
    assert (found.objective, len(starts)) == (1.0, 4)
    assert torch.equal(found.images, starts[2].clamp(0, 1))


def test_no_other_start_is_tried_once_one_is_good_enough() -> None:
    objectives = iter([0.5])  # asked for another one, it would raise
    found = _problem().best(lambda _: next(objectives), restarts=4, seed=0, good_enough=0.5)
    assert found.objective == 0.5


def test_attempts_that_all_diverge_still_give_a_finite_image() -> None:
    def attempt(variables: Variables) -> float:
        variables.images.data.fill_(float("nan"))
        return float("nan")

    found = _problem().best(attempt, restarts=2, seed=0, good_enough=0)
    assert found.objective == float("inf")
    assert bool(found.images.isfinite().all())


def test_layers_that_stay_at_the_site_are_not_compared() -> None:
    problem = _problem()
    head = {"net.head.bias": problem.seen["net.head.bias"], "net.step": torch.tensor(3.0)}
    part = Matching(problem.simulate, head, SHAPE, LABEL)
    truth = Variables(pictures(), torch.zeros(0))
    assert part.objective(truth, squared_distance).item() == pytest.approx(0)


def test_a_gradient_of_another_net_is_refused() -> None:
    problem = Matching(_problem().simulate, {"other": torch.ones(1)}, SHAPE, LABEL)
    with pytest.raises(DataError, match=r"none of the module's parameters: it has \['other'\]"):
        problem.objective(problem.start(0), squared_distance)


@pytest.mark.parametrize(
    ("seen", "message"),
    [(float("inf"), "holds NaN or infinity"), (0.0, "zero everywhere; there is nothing to match")],
)
def test_a_gradient_that_cannot_be_matched_is_refused(seen: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Matching(_problem().simulate, {"w": torch.tensor([seen])}, SHAPE, LABEL)


@pytest.mark.parametrize(
    ("attack", "settings", "message"),
    [
        (dlg, {"iterations": 0}, "Expected `iterations` to be at least 1, but got 0"),
        (dlg, {"restarts": 0}, "Expected `restarts` to be at least 1, but got 0"),
        (invert_gradient, {"iterations": 0}, "Expected `iterations` to be at least 1, but got 0"),
        (invert_gradient, {"lr": 0.0}, "Expected `lr` to be positive, but got 0.0"),
        (invert_gradient, {"tv": -1.0}, "Expected `tv` to be at least 0, but got -1.0"),
    ],
)
def test_settings_out_of_range_are_named(
    attack: Callable[..., Reconstruction], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        attack(_problem(), **settings)


def test_an_empty_range_and_an_empty_shape_are_refused() -> None:
    gradient, seen = TaskGradient(lenet_classifier()), {"w": torch.ones(1)}
    with pytest.raises(ConfigError, match="Expected `values` to rise"):
        Matching(gradient, seen, SHAPE, LABEL, values=(1, 1))
    with pytest.raises(ConfigError, match="Expected `shape` to be positive"):
        Matching(gradient, seen, (0, 1, 16, 16), LABEL)
