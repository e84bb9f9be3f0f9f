"""Studies: many runs over seeds and conditions, and the table that compares them."""
