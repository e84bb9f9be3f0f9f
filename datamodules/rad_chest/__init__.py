"""RAD-ChestCT: volumes as .npz files, and a table that says whose they are and what they show."""
