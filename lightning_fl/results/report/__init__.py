"""The HTML report of a run, from the files in its folder."""
