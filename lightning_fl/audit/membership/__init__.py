"""Attacks that tell whether a patient's images were used in training."""
