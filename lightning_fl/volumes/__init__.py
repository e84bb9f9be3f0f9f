"""Whole scans in three dimensions: segmented by every model and direction, and scored."""
