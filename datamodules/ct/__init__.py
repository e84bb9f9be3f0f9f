"""CT scans in files: reading NIfTI and DICOM, the grid of the net, slices and their cache."""
