"""The mean over an image and its mirror image, as one module of the task."""

import copy
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.ensemble import OutputMap, check_averages
from lightning_fl.personalisation.fine_tune import last_path
from lightning_fl.personalisation.workbench import Workbench


class Mirror(Candidate):
    """Mean probability over the image and its mirror image, left for right; no gradient.

    Test-time augmentation (Wang et al. 2019, Neurocomputing 338:34-45) by the one reflection that
    a body roughly has. It belongs to training with `RandomHorizontalFlip`: a net that never saw
    a mirrored image need not know what to do with one. A model so wrapped takes two passes to
    predict. What is wrapped is every snapshot of the last FineTune before this in the list, or the
    model as it came where there is none. Works with the tasks that Ensemble works with.
    """

    label = "mirror"

    def check(self, module: pl.LightningModule, before: Sequence[Candidate]) -> None:
        """Refuse a task whose outputs cannot be averaged."""
        check_averages("Mirror", module)

    def variants(self, bench: Workbench, found: Sequence[Variant]) -> list[Variant]:
        """One for each snapshot, e.g. "mirror@100", or "mirror@0" where there is none."""
        wrapped = last_path(found) or [Variant(bench.start_name, bench.start)]
        return [
            Variant(
                f"{self.label}@{one.steps}", mirrored(one.module), one.steps, members=(one.name,)
            )
            for one in wrapped
        ]


class MirrorNet(nn.Module):
    """Gives the output whose probability is the mean over an image and its mirror image.

    Args:
        net: maps images (B, C, ..., W) to outputs; those with as many dimensions as the images
            are turned back before they are averaged.
        to_probabilities: of an output; shape-preserving.
        to_outputs: its inverse.
    """

    def __init__(self, net: nn.Module, to_probabilities: OutputMap, to_outputs: OutputMap) -> None:
        super().__init__()
        self.net = net
        self.to_probabilities = to_probabilities
        self.to_outputs = to_outputs

    def forward(self, image: Tensor) -> Tensor:
        """Run the net twice."""
        seen = self.to_probabilities(self.net(image))
        turned = self.to_probabilities(self.net(image.flip(-1)))
        if turned.ndim == image.ndim:
            turned = turned.flip(-1)
        return self.to_outputs(torch.lerp(seen, turned, 0.5))


def mirrored(module: pl.LightningModule) -> pl.LightningModule:
    """A module of the same task that predicts from images and mirror images.

    Args:
        module: copied.
    """
    wrapped = copy.deepcopy(module)
    to_probabilities, to_outputs = wrapped.output_maps()  # type: ignore[operator]
    wrapped.net = MirrorNet(wrapped.get_submodule("net"), to_probabilities, to_outputs)
    return wrapped
