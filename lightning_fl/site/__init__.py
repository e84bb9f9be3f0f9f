"""A site: one hospital in a run, behind a boundary of bytes."""
