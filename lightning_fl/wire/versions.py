"""Versions of the packages that decide a run's numbers."""

import platform
from collections.abc import Iterable
from importlib import metadata

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
