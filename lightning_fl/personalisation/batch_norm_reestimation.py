"""Personalisation without a gradient: BatchNorm's statistics from the site's own images."""

from collections.abc import Sequence

from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.workbench import Workbench


class BatchNormReestimation(Candidate):
    """Give the model BatchNorm's running statistics of the site's training images.

    The statistics are the mean over the batches of one pass, as in AdaBN (Li et al. 2016, arXiv
    1603.04779) but on training images. A net without BatchNorm stays as it came.
    """

    label = "batch_norm"

    def variants(self, bench: Workbench, earlier: Sequence[Variant]) -> list[Variant]:
        """Make one variant, "batch_norm"."""
        return [Variant(self.label, bench.with_own_batch_norm(bench.start))]
