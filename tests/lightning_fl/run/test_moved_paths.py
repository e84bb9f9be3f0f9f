import pytest

from lightning_fl.errors import ConfigError
from lightning_fl.run.moved_paths import refuse_moved


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lightning_fl.privacy.Audit", "lightning_fl.audit.Audit"),
        ("lightning_fl.privacy.audit.Audit", "lightning_fl.audit.Audit"),
        ("lightning_fl.differential_privacy.*", "lightning_fl.privacy.*"),
        ("lightning_fl.differential_privacy.SiteLevelDP", "lightning_fl.privacy.SiteLevelDP"),
        ("lightning_fl.differential_privacy.site_level.SiteLevelDP", "lightning_fl.privacy.SiteL"),
    ],
)
def test_an_old_path_is_told_with_the_new_one(old: str, new: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_moved(["models.Segmentation", old], "old/config.yaml")
    assert str(caught.value).startswith(f"old/config.yaml names {old}, which is {new}")
    assert str(caught.value).endswith("since version 0.2.0; change it there.")


def test_paths_of_today_are_left_alone() -> None:
    paths = [
        "lightning_fl.privacy.SiteLevelDP",
        "lightning_fl.privacy.*",
        "lightning_fl.audit.Audit",
    ]
    refuse_moved(paths, "config.yaml")
