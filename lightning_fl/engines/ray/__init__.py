"""The Ray engine: sites in processes of a cluster."""
