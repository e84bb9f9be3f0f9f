"""Scans of any modality as slices: the grid of the net, slices and their cache."""
