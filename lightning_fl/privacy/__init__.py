"""Differential privacy of a run: of whole sites, or of single training samples."""

from lightning_fl.privacy.base import DifferentialPrivacy as DifferentialPrivacy
from lightning_fl.privacy.sample_level import SampleLevelDP as SampleLevelDP
from lightning_fl.privacy.site_level import SiteLevelDP as SiteLevelDP
