"""Names of the files in a run's folder."""

from pathlib import Path

CONFIG = "config.yaml"
"""The settings of a run that train.py started, from which it can be run again."""
SETTINGS = "settings.yaml"
"""What a run from Python writes down of its settings in place of config.yaml."""
REPORT = "report.html"
MODELS = "models"
GLOBAL, PERSONAL = "global", "personal"
"""Kinds of models. The shared model is in models/global.safetensors."""
LOCAL = "local"
"""Metadata key of models/global.safetensors: names of the entries that never left the sites."""
PREPROCESSING = "preprocessing.yaml"
CASES = "cases.csv"
"""Scores of every validation and test patient: of a site in its folder, of all in the run's."""
VOLUMES = "volumes.csv"
MASKS = "masks"
"""Folder with the masks of whole test scans."""
PICTURE = ".picture.safetensors"
"""Suffix of a slice for the report, beside the masks."""
AUDIT_CSV, AUDIT_JSON, AUDIT_PICTURES = "audit.csv", "audit.json", "audit.safetensors"
AUDIT_FILES = (AUDIT_CSV, AUDIT_JSON, AUDIT_PICTURES)
CHECKPOINTS = "checkpoints"
INIT = Path(CHECKPOINTS) / "init.safetensors"
"""The weights that the run began with, where `init` names some."""
GALLERY = "gallery.safetensors"
"""Test images of a site with truth and predictions, in the site's folder."""
SITES = Path(CHECKPOINTS) / "sites"
"""Folder with the folders of the sites, where one owner holds them all."""


def first_weights(folder: Path) -> Path | None:
    """Return the file of the weights that a run began with, None where `init` named none."""
    file = folder / INIT
    return file if file.is_file() else None


def settings_file(folder: Path) -> Path:
    """Return the file with the settings of a run, which need not be there."""
    config = folder / CONFIG
    return config if config.is_file() else folder / SETTINGS
