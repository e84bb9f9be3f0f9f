from pathlib import Path

import pytest

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.algorithms import LateLocal
from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import Personalisation
from lightning_fl.privacy import SiteLevelDP
from lightning_fl.run.blueprint import Blueprint
from tests.toy import toy_experiment


def test_neither_a_plan_nor_a_blueprint_changes_the_settings() -> None:
    algorithm, aggregator = LateLocal(0.5, personal=["net.3"]), CyclicCKKS()
    experiment = toy_experiment(
        algorithm=algorithm,
        aggregator=aggregator,
        privacy=SiteLevelDP(noise_multiplier=1.0, clip=1.0),
        rounds=8,
    )
    before = dict(vars(algorithm)), dict(vars(aggregator))
    experiment.plan()
    blueprint = Blueprint(experiment)
    assert (vars(algorithm), vars(aggregator)) == before
    assert blueprint.algorithm.shared_rounds == 4
    assert blueprint.aggregator.noise is not None
    assert aggregator.noise is None


def test_a_blueprint_makes_sites_of_its_own_layout(tmp_path: Path) -> None:
    blueprint = Blueprint(toy_experiment())
    site = blueprint.make_site("A", "run", tmp_path / "A")
    assert site.state.layout is blueprint.layout
    assert blueprint.first_state("run").fingerprint == blueprint.layout.fingerprint
    assert (tmp_path / "A").is_dir()


def test_numbers_of_patients_want_a_hospital_that_does_not_train() -> None:
    experiment = toy_experiment(personalisation=Personalisation([], patients=[1]))
    with pytest.raises(ConfigError, match="none in this run"):
        Blueprint(experiment)
