import pytest

from datamodules.examples import EXAMPLES, Amount
from datamodules.examples.layouts import LAYOUTS
from lightning_fl.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("sites", 0, 1), ("patients", 2, 3), ("size", 31, 32), ("slices", 11, 12)],
)
def test_too_little_is_refused_by_name(name: str, value: int, least: int) -> None:
    enough = {"sites": 3, "patients": 6, "size": 64, "slices": 24}
    with pytest.raises(ConfigError, match=f"`{name}` to be at least {least}, but got {value}"):
        Amount(**enough | {name: value})


def test_more_sites_than_letters_are_refused() -> None:
    with pytest.raises(ConfigError, match="`sites` to be at most 26, but got 27"):
        Amount(sites=27, patients=6, size=64, slices=24)


def test_each_task_has_its_maker() -> None:
    assert set(EXAMPLES) - set(LAYOUTS) == {"rad", "covid", "images"}
    assert [EXAMPLES[name].configs[0] for name in ("rad", "covid", "images")] == [
        "configs/rad_chestct.yaml",
        "configs/covid_ct.yaml",
        "configs/deploy_demo.yaml",
    ]
