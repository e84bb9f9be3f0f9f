"""A real hospital: its terms, its startup kit and its identity."""
