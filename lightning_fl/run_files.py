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
SITES = Path(CHECKPOINTS) / "sites"
"""Folder with the folders of the sites, where one owner holds them all."""
