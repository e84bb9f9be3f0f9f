"""A run: its settings, and everything between the first byte and the report."""
