"""Make an NVFlare startup kit ready for runs.

The holder of the kit runs `python -m lightning_fl.hospital.prepare_kit KIT [--data ROOT]` once, on
the machine that the kit is for. It writes into the kit's folder `local`, which belongs to the
holder and not to the coordinator.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fl.aggregation.ring.identity import SUFFIX, Identity, fingerprint, make
from lightning_fl.engines.nvflare.names import SERVER_CLASSES, SITE_CLASSES
from lightning_fl.errors import ConfigError
from lightning_fl.files import write_text
from lightning_fl.hospital.file import NAME
from lightning_fl.hospital.new_file import new_file

HEARTBEAT = 30
"""Seconds of silence after which the server takes a site for gone; NVFlare's are 600."""
MAX_JOBS = 1000
"""Jobs at a time; a run has one for each site."""
ROLES = ("project_admin", "org_admin", "lead", "member")


def prepare(kit: Path, data: Path | None = None) -> list[Path]:
    """Write what a kit needs; a hospital's file and identity that are there stay.

    Args:
        kit: folder of the startup kit.
        data: with a hospital's kit, the folder of its data, the `root` of its data module.

    Returns:
        The files that were written.

    Raises:
        ConfigError: this is no startup kit.
    """
    if (kit / "startup" / "fed_server.json").is_file():
        return [_resources(kit, SERVER_CLASSES, server=True), _authorization(kit)]
    if (kit / "startup" / "fed_client.json").is_file():
        written = [_resources(kit, SITE_CLASSES), _authorization(kit)]
        return [*written, *_identity(kit), *_file(kit, data)]
    if (kit / "startup" / "fed_admin.json").is_file():
        return []
    raise ConfigError(
        f"{str(kit)!r} is no startup kit of a server, a site or a user: its folder `startup` has "
        "no fed_server.json, fed_client.json or fed_admin.json."
    )


def site_of(kit: Path) -> str:
    """Return the name of the hospital that a kit is for."""
    values = json.loads((kit / "startup" / "fed_client.json").read_text(encoding="utf-8"))
    return str(values["client"]["fqsn"])


def identity_of(kit: Path) -> str:
    """Return the fingerprint of the identity in a hospital's kit, which the others pin.

    Raises:
        ConfigError: there is none.
    """
    return fingerprint(Identity(kit / "local" / f"{site_of(kit)}{SUFFIX}").public)


def _identity(kit: Path) -> list[Path]:
    """Make the hospital's identity; one that is there stays, since others have pinned it."""
    file = kit / "local" / f"{site_of(kit)}{SUFFIX}"
    if file.exists():
        return []
    make(file)
    return [file]


def _file(kit: Path, data: Path | None) -> list[Path]:
    """Write the hospital's file; one that is there stays."""
    file = kit / "local" / NAME
    if file.exists():
        return []
    root = "# root: /path/to/the/data" if data is None else f"root: {json.dumps(str(data))}"
    write_text(file, new_file(root, f"{site_of(kit)}: {identity_of(kit)}"))
    return [file]


def _resources(kit: Path, allowed: Sequence[str], *, server: bool = False) -> Path:
    """Allow what runs here; keep jobs and snapshots in the kit's own folder."""
    target = kit / "local" / "resources.json"
    source = target if target.exists() else target.with_name("resources.json.default")
    values: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    values["class_list_enforcement_mode"] = "enforce"
    values["class_allow_list"] = sorted(allowed)  # not NVFlare's own methods, which no run needs
    values["allow_log_streaming"] = False  # a site's errors name its files, and so its patients
    if server:
        values["servers"][0]["heart_beat_timeout"] = HEARTBEAT
        storage = str((kit / "storage").resolve())
        values["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = f"{storage}/snapshots"
        for component in values["components"]:
            if component["id"] == "job_manager":
                component["args"]["uri_root"] = f"{storage}/jobs"
            if component["id"] == "job_scheduler":
                component["args"]["max_jobs"] = MAX_JOBS
    return _write_json(target, values)


def _authorization(kit: Path) -> Path:
    """Let no user send code, or have commands run here."""
    rights = {
        **dict.fromkeys(("submit_job", "manage_job", "download_job", "view", "operate"), "any"),
        **dict.fromkeys(("clone_job", "shell_commands", "byoc"), "none"),
    }
    may = {role: rights if role in ("project_admin", "lead") else {"view": "any"} for role in ROLES}
    target = kit / "local" / "authorization.json"
    return _write_json(target, {"format_version": "1.0", "permissions": may})


def _write_json(file: Path, values: Any) -> Path:
    write_text(file, json.dumps(values, indent=2) + "\n")
    return file


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare a kit, say what was written, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kit", type=Path, help="folder of the startup kit")
    parser.add_argument("--data", type=Path, help="folder of the hospital's data")
    options = parser.parse_args(arguments)
    try:
        written = prepare(options.kit, options.data)
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.writelines(f"{file}\n" for file in written)
    if (options.kit / "startup" / "fed_client.json").is_file():
        sys.stdout.write(
            f"The fingerprint of {site_of(options.kit)} is\n  {identity_of(options.kit)}\nTell it "
            "the other hospitals, by telephone or the like and not through the coordinator, and "
            f"write theirs and this one under `pins` in {options.kit / 'local' / NAME}.\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
