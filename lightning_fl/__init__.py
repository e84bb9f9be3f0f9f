"""Personalised, private federated learning for medical images on PyTorch Lightning."""

__version__ = "0.1.0"
