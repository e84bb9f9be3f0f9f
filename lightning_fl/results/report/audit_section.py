"""What the report shows of an audit: who sees what, and which models give patients away."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from lightning_fl.results.report.slice_pictures import png_address
from lightning_fl.run_files import AUDIT_JSON, AUDIT_PICTURES

Record = Mapping[str, Any]
"""An entry of audit.json."""


def audit_values(run: Path) -> dict[str, Any]:
    """Return audit.json with what the report adds to it; {} without an audit.

    Args:
        run: the run's folder.
    """
    file = run / AUDIT_JSON
    if not file.is_file():
        return {}
    audit: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    views, outcomes = audit["views"], audit["distinguishing"]
    hidden = [view for view in views if view["protected"] and view["view"] != "noise"]
    leaks = [view["title"] for view in hidden if view["verdict"] != "no better than guessing"]
    passed = [test["title"] for test in outcomes if test["protected"] and test["sees"]]
    active = audit.get("active", [])  # which audits of version 0.1.0 have not
    lies = [attack["title"] for attack in active if attack["defended"]["read"]]
    return audit | {
        "active": active,
        "hidden": hidden,
        "leaks": [*leaks, *(f"{title} (tells two updates apart)" for title in passed), *lies],
        "pictures": _pictures(run, views),
        "membership": [attack | {"name": model_name(attack)} for attack in audit["membership"]],
    }


def model_name(attack: Record) -> str:
    """Return the name of the attacked model."""
    return f"personal model of {attack['site']}" if attack["site"] else "global model"


def _pictures(run: Path, views: Sequence[Record]) -> list[tuple[Record, list[tuple[str, str]]]]:
    """Return for each view the addresses of true images, each with that of its reconstruction."""
    file = run / AUDIT_PICTURES
    if not file.is_file():
        return []
    tensors = load_file(file)
    pictures = []
    for view in views:
        truths, images = (tensors[f"{view['view']}/{kind}"] for kind in ("truth", "found"))
        pairs = [
            (png_address(truth), png_address(image, like=truth))
            for truth, image in zip(truths, images, strict=True)
        ]
        pictures.append((view, pairs))
    return pictures
