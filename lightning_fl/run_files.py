"""Names of the files in a run's folder."""

from pathlib import Path

CONFIG = "config.yaml"
REPORT = "report.html"
MODELS = "models"
GLOBAL, PERSONAL = "global", "personal"
"""Kinds of models. The shared model is in models/global.safetensors."""
LOCAL = "local"
"""Metadata key of models/global.safetensors: names of the entries that never left the sites."""
PREPROCESSING = "preprocessing.yaml"
VOLUMES = "volumes.csv"
MASKS = "masks"
"""Folder with the masks of whole test scans."""
PICTURE = ".picture.safetensors"
"""Suffix of a slice for the report, beside the masks."""
AUDIT_CSV, AUDIT_JSON, AUDIT_PICTURES = "audit.csv", "audit.json", "audit.safetensors"
AUDIT_FILES = (AUDIT_CSV, AUDIT_JSON, AUDIT_PICTURES)
CHECKPOINTS = "checkpoints"
GALLERY = "gallery.safetensors"
"""Test images of a site with truth and predictions, in the site's folder."""
SITES = Path(CHECKPOINTS) / "sites"
"""Folder with the folders of the sites, where one owner holds them all."""
