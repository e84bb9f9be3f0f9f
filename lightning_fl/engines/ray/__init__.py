"""The Ray engine: each site in a process of a cluster."""
