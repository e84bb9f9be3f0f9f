"""A page that compares finished runs."""
