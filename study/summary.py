"""What the tables of a study say, computed from its rows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lightning_fl.results.formats import LOWER_IS_BETTER
from study.plan import Condition
from study.records import Cost, Records, Score
from study.statistics import Interval, mean, paired_difference, sd
from study.study_file import UNFITTED, Method, Study

BySeed = dict[int, float]
"""Seed -> value."""
COLLAPSE = 0.5
"""A site's score below this share of a floor's has collapsed."""
BEFORE = ("global", "global_bn", "local", "local_bn", "mirror@0", *UNFITTED)
"""Models that no gradient of personalisation went into."""
UNEQUAL = 1.1
"""Methods whose gradients differ by more than this factor are not compared on equal terms."""


@dataclass(frozen=True)
class MethodSummary:
    """One row of a table.

    Attributes:
        name: of the method.
        mean: over seeds, of the mean over the training sites.
        sd: over seeds, of the same.
        worst: mean over seeds of the worst site's score.
        n: number of seeds.
        difference: of the means to the reference's, paired by seed.
        worst_difference: of the worst sites to the reference's.
        sites: for each site its scores by seed.
        collapses: how many of the sites' scores are below half of a floor's.
        compared: how many scores there were to compare with a floor's.
        gradients: a run's, with those of personalisation for a model that had it; NaN if unknown.
        bytes: a run's.
        seconds: a run's.
    """

    name: str
    mean: float
    sd: float
    worst: float
    n: int
    difference: Interval
    worst_difference: Interval
    sites: Mapping[str, BySeed]
    collapses: int
    compared: int
    gradients: float
    bytes: float
    seconds: float


@dataclass(frozen=True)
class ConditionSummary:
    """The rows of one condition; methods without a score are not there.

    Attributes:
        condition: with its seeds.
        methods: the rows.
        losses: how often sites dropped out of rounds, of each run where one did.
    """

    condition: Condition
    methods: tuple[MethodSummary, ...]
    losses: Mapping[str, int]

    @property
    def sites(self) -> list[str]:
        """All sites that some method has a score for."""
        return list(dict.fromkeys(site for m in self.methods for site in m.sites))

    @property
    def unequal(self) -> tuple[MethodSummary, MethodSummary] | None:
        """The methods with the fewest and the most gradients, where they differ by over 10 %."""
        counted = [m for m in self.methods if math.isfinite(m.gradients)]
        if not counted:
            return None
        fewest, most = (f(counted, key=lambda m: m.gradients) for f in (min, max))
        return (fewest, most) if most.gradients > UNEQUAL * fewest.gradients else None


def summarise(study: Study, condition: Condition, records: Records) -> ConditionSummary:
    """Compute the rows of a condition.

    Args:
        study: says which metric, reference and floors.
        condition: with the seeds to take.
        records: of the whole study.
    """
    scores = [
        row
        for row in records.scores
        if row.condition == condition.name
        and row.seed in condition.seeds
        and is_shown(row, study.metric)
    ]
    costs = [
        row
        for row in records.costs
        if row.condition == condition.name and row.seed in condition.seeds
    ]
    by_method = {name: _by_site(scores, name, method) for name, method in study.methods.items()}
    rows = [
        _summarise(study, name, by_method, [c for c in costs if c.run == method.run])
        for name, method in study.methods.items()
        if by_method[name]
    ]
    used = {method.run for method in study.methods.values()}
    return ConditionSummary(condition, tuple(rows), _losses(c for c in costs if c.run in used))


def is_shown(row: Score, metric: str) -> bool:
    """Whether a row is one of the numbers that the tables are about."""
    return row.split == "test" and row.metric == metric


def _losses(costs: Iterable[Cost]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in costs:
        if row.losses:
            found[row.run] = found.get(row.run, 0) + row.losses
    return found


def _by_site(scores: Sequence[Score], name: str, method: Method) -> dict[str, BySeed]:
    """The scores of a method, by site (or mean or worst) and seed; NaN is left out.

    The name alone is not enough: a row of the study file may have become that of another model.
    """
    sites: dict[str, BySeed] = {}
    for row in scores:
        mine = (row.method, row.run, row.model) == (name, method.run, method.model)
        if mine and math.isfinite(row.value):
            sites.setdefault(row.site, {})[row.seed] = row.value
    return sites


def _summarise(
    study: Study, name: str, methods: Mapping[str, Mapping[str, BySeed]], costs: Sequence[Cost]
) -> MethodSummary:
    own, reference = methods[name], methods[study.reference]
    means, worst = own.get("mean", {}), own.get("worst", {})
    floors = [methods[floor] for floor in study.floor if floor != name]
    collapses, compared = count_collapses(own, floors, study.metric)
    personalised = study.methods[name].model not in BEFORE
    return MethodSummary(
        name=name,
        mean=mean(list(means.values())),
        sd=sd(list(means.values())),
        worst=mean(list(worst.values())),
        n=len(means),
        difference=paired_difference(means, reference.get("mean", {})),
        worst_difference=paired_difference(worst, reference.get("worst", {})),
        sites={site: own[site] for site in own if site not in ("mean", "worst")},
        collapses=collapses,
        compared=compared,
        gradients=mean([_gradients(row, personalised) for row in costs]),
        bytes=mean([row.bytes for row in costs]),
        seconds=mean([row.seconds for row in costs]),
    )


def _gradients(row: Cost, personalised: bool) -> float:
    if row.train_gradients is None:
        return math.nan
    return row.train_gradients + (row.personalise_gradients or 0 if personalised else 0)


def count_collapses(
    own: Mapping[str, BySeed], floors: Sequence[Mapping[str, BySeed]], metric: str
) -> tuple[int, int]:
    """How many scores of sites lie below half of a floor's score there, and of how many.

    Args:
        own: for each site its scores by seed.
        floors: the same of methods that no method should fall far behind.
        metric: of a loss no half is taken; there is nothing to compare.
    """
    if metric in LOWER_IS_BETTER:
        return 0, 0
    collapses = compared = 0
    for site, scores in own.items():
        if site in ("mean", "worst"):
            continue
        for seed, value in scores.items():
            against = [floor[site][seed] for floor in floors if seed in floor.get(site, {})]
            compared += bool(against)
            collapses += any(value < COLLAPSE * score for score in against)
    return collapses, compared
