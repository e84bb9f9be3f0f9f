"""The mean over an image and its mirror image, as one module of the task."""

import copy
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.ensemble import check_averages
from lightning_fl.personalisation.fine_tune import last_path
from lightning_fl.personalisation.workbench import Workbench
from lightning_fl.training.output_maps import OutputMap, output_maps


class Mirror(Candidate):
    """Average probabilities over the image and its mirror image, left for right; no gradient.

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

    def variants(self, bench: Workbench, earlier: Sequence[Variant]) -> list[Variant]:
        """Make one variant for each snapshot, e.g. "mirror@100", else one, "mirror@0"."""
        return [
            Variant(f"{self.label}@{v.steps}", mirrored(v.module), v.steps, members=(v.name,))
            for v in last_path(earlier) or [Variant(bench.start_name, bench.start)]
        ]


class MirrorNet(nn.Module):
    """Give the output whose probability is the mean over an image and its mirror image.

    The net maps images (B, C, ..., W) to outputs. Those with as many dimensions as the images are
    turned back before they are averaged.
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
    """Copy a module into one that predicts from images and mirror images."""
    wrapped = copy.deepcopy(module)
    wrapped.net = MirrorNet(wrapped.get_submodule("net"), *output_maps(wrapped))
    return wrapped
