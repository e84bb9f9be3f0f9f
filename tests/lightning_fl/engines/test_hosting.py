"""How a process is asked to host a site."""

import pytest

from lightning_fl.engines.hosting import SAME, Invitation
from lightning_fl.errors import ConfigError
from lightning_fl.wire.versions import package_versions

INVITATION = Invitation("A", "seed: 0\n", "1234", ("A", "B"), "/somewhere", 2)


def test_an_invitation_arrives_as_it_was_sent() -> None:
    assert Invitation.decode(INVITATION.encode()) == INVITATION


def test_equal_versions_are_welcome_whatever_their_build() -> None:
    INVITATION.check_versions(package_versions(SAME))
    INVITATION.check_versions({k: f"{v}+cpu" for k, v in package_versions(SAME).items()})


@pytest.mark.parametrize("package", ["lightning-fl", "torch", "tenseal"])
def test_another_version_is_refused_and_both_are_named(package: str) -> None:
    own = package_versions(SAME)
    with pytest.raises(ConfigError, match=f"Site 'A' has {package} 0.0.1.*{own[package]}"):
        INVITATION.check_versions(own | {package: "0.0.1"})


def test_a_package_that_is_not_there_is_refused() -> None:
    own = package_versions(SAME)
    del own["tenseal"]
    with pytest.raises(ConfigError, match="tenseal not at all"):
        INVITATION.check_versions(own)


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"site": "A"}', b"\xff"])
def test_what_is_no_invitation_is_refused(payload: bytes) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Invitation.decode(payload)
