"""Logits to probabilities and back, by sigmoid or by softmax."""

from collections.abc import Callable

import torch
from torch import Tensor

OutputMap = Callable[[Tensor], Tensor]


def fine(logits: Tensor) -> Tensor:
    """Raise logits to single precision at least; half has no probabilities close to 1."""
    return logits.float() if logits.itemsize < 4 else logits


def output_maps(*, sigmoid: bool) -> tuple[OutputMap, OutputMap]:
    """Return the maps from logits to probabilities and back, both of shape (B, classes, ...)."""
    return (_sigmoid, _logit) if sigmoid else (_softmax, _log)


def _sigmoid(logits: Tensor) -> Tensor:
    return fine(logits).sigmoid()


def _logit(probabilities: Tensor) -> Tensor:
    return probabilities.logit(eps=torch.finfo(probabilities.dtype).eps)


def _softmax(logits: Tensor) -> Tensor:
    return fine(logits).softmax(dim=1)


def _log(probabilities: Tensor) -> Tensor:
    """Return logits up to a constant over the classes, which softmax does not see."""
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
