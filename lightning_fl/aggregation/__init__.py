"""Ways to the mean update; each has the coordinator's half and the site's."""

from lightning_fl.aggregation.base import Aggregate as Aggregate
from lightning_fl.aggregation.base import Aggregator as Aggregator
from lightning_fl.aggregation.base import Updates as Updates
from lightning_fl.aggregation.cyclic import CyclicCKKS as CyclicCKKS
from lightning_fl.aggregation.plain import Plain as Plain
from lightning_fl.wire.operations import Answer as Answer
