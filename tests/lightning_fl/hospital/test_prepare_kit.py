"""Startup kits as NVFlare makes them, made ready for runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lightning_fl.aggregation.ring.identity import SUFFIX, Identity, fingerprint
from lightning_fl.engines.nvflare.names import SERVER_CLASSES, SITE_CLASSES
from lightning_fl.errors import ConfigError
from lightning_fl.hospital.file import NAME, HospitalFile
from lightning_fl.hospital.prepare_kit import main
from tests.waiting import PATIENCE

PROJECT = {
    "api_version": 3,
    "name": "test",
    "participants": [
        {"name": "localhost", "type": "server", "org": "o", "fed_learn_port": 1, "admin_port": 2},
        {"name": "A", "type": "client", "org": "o"},
        {"name": "u@example.org", "type": "admin", "org": "o", "role": "lead"},
    ],
    "builders": [
        {"path": "nvflare.lighter.impl.workspace.WorkspaceBuilder"},
        {
            "path": "nvflare.lighter.impl.static_file.StaticFileBuilder",
            "args": {"config_folder": "config", "scheme": "tcp"},
        },
        {"path": "nvflare.lighter.impl.cert.CertBuilder"},
        {"path": "nvflare.lighter.impl.signature.SignatureBuilder"},
    ],
}


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's, a site's and a user's kit, by NVFlare's own command."""
    folder = tmp_path_factory.mktemp("federation")
    (folder / "project.yml").write_text(yaml.safe_dump(PROJECT))
    nvflare = str(Path(sys.executable).with_name("nvflare"))
    command = [nvflare, "provision", "-p", "project.yml"]
    subprocess.run(
        [*command, "-w", "ws"], cwd=folder, check=True, capture_output=True, timeout=PATIENCE
    )
    return folder / "ws" / "test" / "prod_00"


def resources(kit: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((kit / "local" / "resources.json").read_text())
    return values


def test_a_server_allows_the_coordinators_side_and_keeps_its_jobs_in_its_own_folder(
    kits: Path,
) -> None:
    assert main([str(kits / "localhost")]) == 0
    values = resources(kits / "localhost")
    allowed = values["class_allow_list"]
    assert isinstance(allowed, list)
    assert set(SERVER_CLASSES) <= set(allowed)
    assert not set(SITE_CLASSES) & set(allowed)
    assert values["class_list_enforcement_mode"] == "enforce"
    assert "/tmp/nvflare" not in json.dumps(values)


def test_a_site_allows_the_sites_side_and_gets_a_file_of_its_own(
    kits: Path, tmp_path: Path
) -> None:
    assert main([str(kits / "A"), "--data", str(tmp_path)]) == 0
    allowed = resources(kits / "A")["class_allow_list"]
    assert isinstance(allowed, list)
    assert set(SITE_CLASSES) <= set(allowed)
    assert not set(SERVER_CLASSES) & set(allowed)
    file = kits / "A" / "local" / NAME
    with pytest.raises(ConfigError, match="has no `pins`"):
        HospitalFile.read(file)
    file.write_text(file.read_text().replace("# pins: {A: 3f9c...", f"pins: {{A: {'ab' * 32}}} #"))
    own = HospitalFile.read(file)
    assert own.settings["data"]["init_args"]["root"] == str(tmp_path)


def test_a_site_gets_an_identity_once_and_its_fingerprint_is_printed(
    kits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(kits / "A")])
    file = kits / "A" / "local" / f"A{SUFFIX}"
    before = file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0
    capsys.readouterr()
    main([str(kits / "A")])
    assert file.read_bytes() == before
    assert fingerprint(Identity(file).public) in capsys.readouterr().out


def test_a_hospitals_file_is_never_written_over(kits: Path) -> None:
    own = kits / "A" / "local" / NAME
    own.write_text("mine")
    assert main([str(kits / "A")]) == 0
    assert own.read_text() == "mine"


@pytest.mark.parametrize("kit", ["localhost", "A"])
def test_nobody_may_send_code_or_commands(kits: Path, kit: str) -> None:
    main([str(kits / kit)])
    rights = json.loads((kits / kit / "local" / "authorization.json").read_text())["permissions"]
    for role, may in rights.items():
        assert may.get("byoc", "none") == "none", role
        assert may.get("shell_commands", "none") == "none", role


def test_a_users_kit_needs_nothing(kits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(kits / "u@example.org")]) == 0
    assert capsys.readouterr().out == ""


def test_a_folder_that_is_no_kit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no startup kit" in capsys.readouterr().err
