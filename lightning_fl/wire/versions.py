"""What decides a run's numbers besides its settings: versions, the processor, its threads."""

import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = (
    "lightning-fl",
    "pytorch-lightning",
    "torch",
    "torchmetrics",
    "torchvision",
    "segmentation-models-pytorch",
    "monai",
    "numpy",
    "tenseal",
)


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, str | int]:
    """Return the processor, its vector instructions as torch uses them, and torch's threads."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return {
        "processor": name[1] if name else platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
