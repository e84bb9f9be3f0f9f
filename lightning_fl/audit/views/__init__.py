"""What each party of a round sees, and how close its best guess comes."""
