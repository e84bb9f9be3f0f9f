"""Measurements. A package of its own, since opacus installs one of the same name."""
