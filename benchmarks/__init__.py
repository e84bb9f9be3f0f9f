"""Measurements; a package with a file of its own, since opacus installs another of this name."""
