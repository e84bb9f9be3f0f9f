"""Training at one site: weights as a vector, layers, batches, fits and scores."""
