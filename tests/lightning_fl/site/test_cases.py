"""The scores of single patients, from a site's predictions to the files of a run."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from lightning_fl.aggregation import Plain
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.errors import ConfigError
from lightning_fl.results.case_tables import CaseRow, read_cases
from lightning_fl.run.experiment import Experiment
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.wire.messages import COORDINATOR, Message
from models import Segmentation
from tests.toy import toy_experiment, toy_run

SITES = {"A": 25, "B": 8}
MODELS = {"global", "global_bn", "finetuned", "personal"}


class Blots(FederatedDataModule):
    """Patients with two images each, the last of a hospital with one; bright pixels are blots."""

    def __init__(self, mm: tuple[float, ...] | None = None) -> None:
        super().__init__(batch_size=3)
        self.mm = mm

    def site_names(self) -> tuple[str, ...]:
        return tuple(SITES)

    def patients(self, site: str) -> tuple[str, ...]:
        return tuple(f"secret-{site}-{number}" for number in range(SITES[site]))

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        samples = [s for p in patients for s in self._samples(site, self.patients(site), p)]
        return cast("Dataset[Any]", samples)

    def _samples(self, site: str, everyone: Sequence[str], patient: str) -> list[Any]:
        number = everyone.index(patient)
        generator = torch.Generator().manual_seed(100 * ord(site) + number)
        images = torch.rand(1 if patient == everyone[-1] else 2, 1, 6, 6, generator=generator)
        return [{"image": x, "mask": (x[0] > 0.8).long()} for x in images]

    def pixel_size(self, site: str) -> tuple[float, ...] | None:
        return self.mm


class Hiding(Plain):
    """Averages without the counts of samples, as a ring with `weights: hidden` does."""

    hides_samples = True


def experiment(**settings: Any) -> Experiment:
    net = nn.Conv2d(1, 1, 1)
    nn.init.constant_(net.weight, 10.0)
    nn.init.constant_(net.get_parameter("bias"), -7.5)  # of pixels brighter than 0.75
    defaults = {
        "module": Segmentation(net),
        "data": Blots(),
        "evaluation": Evaluation(gallery=0),
        "rounds": 1,
    }
    return toy_experiment(**(defaults | settings))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    toy_run(folder, experiment()).start()
    return folder


@pytest.fixture(scope="module")
def rows(run: Path) -> list[CaseRow]:
    return read_cases(run / "cases.csv")


def results_of(run: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run / "results.json").read_text())
    return results


def values(rows: Sequence[CaseRow], *key: str) -> list[float]:
    """The patients' values of a site, model, split and metric."""
    wanted = ("", "", *key[1:])
    return [r.value for r in rows if r.site == key[0] and r[2:7] == wanted]


def test_every_validation_and_test_patient_has_a_row(rows: Sequence[CaseRow]) -> None:
    for site in SITES:
        split = Blots().for_site(site, 0).split(site)
        for part, patients in (("val", split.val), ("test", split.test)):
            of_split = [r for r in rows if (r.site, r.split) == (site, part)]
            assert {r.case for r in of_split} == set(patients)
            assert {r.model for r in of_split} == MODELS
            assert len(values(rows, site, "personal", part, "dice")) == len(patients)
    metrics = {"dice", "iou", "precision", "recall", "hd95_px", "assd_px"}
    assert {r.metric for r in rows} == metrics


def test_single_images_have_rows_where_a_patient_has_several(rows: Sequence[CaseRow]) -> None:
    images = {r.case: set[str]() for r in rows}
    for row in rows:
        images[row.case].add(row.image)
    for case, numbers in images.items():
        only = Blots().patients(case.split("-")[1])[-1]
        assert numbers == ({""} if case == only else {"", "1", "2"})


def test_dice_is_the_mean_of_the_patients_rows(run: Path, rows: Sequence[CaseRow]) -> None:
    results = results_of(run)
    for site in SITES:
        for metric in ("dice", "iou", "precision", "recall"):
            mean = fmean(values(rows, site, "global", "test", metric))
            assert results["sites"][site]["global"]["test"][metric] == pytest.approx(mean)
            statistics = results["cases"][site]["global"]["test"][metric]
            assert statistics["mean"] == pytest.approx(mean)
            assert statistics["low"] <= mean <= statistics["high"]
    dice = results["sites"]["A"]["global"]["test"]
    assert dice["dice_pooled"] != pytest.approx(dice["dice"], abs=1e-6)


def test_numbers_of_patients_and_images_are_told(run: Path) -> None:
    split = Blots().for_site("A", 0).split("A")
    images = Blots().for_site("A", 0).sample_count("test")
    statistics = results_of(run)["cases"]["A"]["personal"]["test"]["dice"]
    assert (statistics["patients"], statistics["images"]) == (len(split.test), images) == (5, 10)


def test_a_finished_run_that_goes_on_gives_equal_scores_again(run: Path) -> None:
    before = (run / "cases.csv").read_bytes(), results_of(run)["cases"]
    toy_run(run, experiment()).start()
    assert ((run / "cases.csv").read_bytes(), results_of(run)["cases"]) == before


def personalised(folder: Path, settings: Experiment) -> tuple[bytes, Path]:
    """A site's answer to the end of a run, and the site's own folder."""
    made = toy_run(folder, settings)
    site = made.make_site("A")
    setup = site.setup
    weights = {"weights": made.blueprint.first_state(setup.run).weights}
    for op, more in (("load", {"info": {"blocks": 1}, "tensors": weights}), ("personalise", {})):
        message = Message(run=setup.run, round=0, sender=COORDINATOR, **more)  # type: ignore[arg-type]
        answer = site.handle(op, message.encode())
    return answer, folder / "checkpoints" / "sites" / "A"


def test_names_of_patients_stay_in_the_sites_folder(tmp_path: Path) -> None:
    answer, own = personalised(tmp_path, experiment())
    assert {row.case.split("-")[0] for row in read_cases(own / "cases.csv")} == {"secret"}
    assert b"secret" not in answer
    assert Message.decode(answer).info["cases"]["global"]["test"]["dice"]["patients"] == 5


def test_only_means_travel_where_counts_are_hidden(tmp_path: Path) -> None:
    answer, _ = personalised(tmp_path, experiment(aggregator=Hiding()))
    cases = Message.decode(answer).info["cases"]
    keys = {
        key
        for splits in cases.values()
        for metrics in splits.values()
        for statistics in metrics.values()
        for key in statistics
    }
    assert keys == {"mean"}
    assert math.isfinite(cases["personal"]["test"]["dice"]["mean"])


def test_distances_are_in_mm_where_the_pixels_are_known(tmp_path: Path) -> None:
    pixels, _ = personalised(tmp_path / "px", experiment())
    mm, _ = personalised(tmp_path / "mm", experiment(data=Blots((2.0, 2.0))))
    in_pixels, in_mm = (Message.decode(a).info["cases"]["global"]["test"] for a in (pixels, mm))
    assert in_mm["hd95"]["mean"] == pytest.approx(2 * in_pixels["hd95_px"]["mean"])
    assert in_mm["dice"] == in_pixels["dice"]
    assert not {"hd95", "assd"} & set(in_pixels)


@pytest.mark.parametrize("size", [(1.0,), (1.0, 1.0, 3.0), (1.0, 0.0)])
def test_a_pixel_size_that_cannot_be_is_refused_before_anything_is_trained(
    size: tuple[float, ...], tmp_path: Path
) -> None:
    site = toy_run(tmp_path, experiment(data=Blots(size))).make_site("A")
    describe = Message(run=site.setup.run, round=0, sender=COORDINATOR)
    with pytest.raises(ConfigError, match="Give a positive edge in mm for each axis"):
        site.handle("describe", describe.encode())


def test_a_task_without_masks_has_no_cases(tmp_path: Path) -> None:
    results = toy_run(tmp_path, toy_experiment(rounds=1)).start()
    assert "cases" not in results
    assert not (tmp_path / "cases.csv").exists()
