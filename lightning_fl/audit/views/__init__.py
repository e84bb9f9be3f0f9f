"""What each party of a run sees, and how close its best guess comes."""
