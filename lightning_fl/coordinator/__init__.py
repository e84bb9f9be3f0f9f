"""The coordinator: the loop of rounds, its plan, its checkpoints and its tables."""
