"""Folders that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""
CONFIGS = ROOT / "configs"
LGG = ROOT.parent / "shared" / "data" / "lgg_mri"
HIPPOCAMPUS = ROOT.parent / "shared" / "data" / "hippocampus_mr"
"""Real images beside the repository. Tests that need them are skipped where they are absent."""
