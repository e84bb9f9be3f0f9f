"""Compute what the tables of a study say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lightning_fl.results.formats import LOWER_IS_BETTER
from study.conditions import Condition
from study.rows import Records, shown_scores
from study.statistics import Interval, paired_difference
from study.study_file import UNFITTED, Method, Study

OVERALL = ["mean", "worst"]
"""Names that stand beside the sites' in the records: over the training sites."""
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
        scores: a row for each seed; a column for each site, and `OVERALL`.
        difference: of the means to the reference's, paired by seed.
        worst_difference: of the worst sites to the reference's.
        collapses: how many of the sites' scores are below half of a floor's.
        compared: how many scores there were to compare with a floor's.
        gradients: a run's, with those of personalisation for a model that had it.
        bytes: a run's.
        seconds: a run's.
    """

    name: str
    scores: pd.DataFrame
    difference: Interval
    worst_difference: Interval
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
        names = dict.fromkeys(site for method in self.methods for site in method.scores)
        return [name for name in names if name not in OVERALL]

    @property
    def unequal(self) -> tuple[MethodSummary, MethodSummary] | None:
        """The methods with the fewest and the most gradients, where they differ by over 10 %."""
        fewest, most = (f(self.methods, key=lambda method: method.gradients) for f in (min, max))
        return (fewest, most) if most.gradients > UNEQUAL * fewest.gradients else None


def summarise(study: Study, condition: Condition, records: Records) -> ConditionSummary:
    """Compute the rows of a condition, over its seeds, from the records of the whole study."""
    shown = _of(condition, shown_scores(records, study.metric))
    scores = {name: _by_seed(shown, name, method) for name, method in study.methods.items()}
    costs = _of(condition, records.costs)
    rows = [
        _summarise(study, name, scores, costs[costs.run == method.run])
        for name, method in study.methods.items()
        if not scores[name].empty
    ]
    used = costs.run.isin([method.run for method in study.methods.values()])
    lossy = costs[used & (costs.losses > 0)]
    losses = lossy.groupby("run", sort=False).losses.sum().to_dict()
    return ConditionSummary(condition, tuple(rows), losses)


def _of(condition: Condition, table: pd.DataFrame) -> pd.DataFrame:
    return table[(table.condition == condition.name) & table.seed.isin(condition.seeds)]


def _by_seed(scores: pd.DataFrame, name: str, method: Method) -> pd.DataFrame:
    """Return a method's scores, a row for each seed, and a column for each site, mean and worst."""
    # the name alone is not enough: the study file may have given it to another run or model since
    rows = scores[
        (scores.method == name) & (scores.run == method.run) & (scores.model == method.model)
    ].dropna(subset="value")
    sites = [site for site in rows.site.unique() if site not in OVERALL]
    return rows.pivot(index="seed", columns="site", values="value").reindex(
        columns=[*sites, *OVERALL]
    )


def _summarise(
    study: Study, name: str, scores: Mapping[str, pd.DataFrame], costs: pd.DataFrame
) -> MethodSummary:
    mine, reference = scores[name], scores[study.reference]
    floors = [scores[floor] for floor in study.floor if floor != name]
    collapses, compared = count_collapses(mine, floors, study.metric)
    gradients = costs.train_gradients
    if study.methods[name].model not in BEFORE:
        gradients = gradients + costs.personalise_gradients
    return MethodSummary(
        name=name,
        scores=mine,
        difference=paired_difference(mine["mean"], reference["mean"]),
        worst_difference=paired_difference(mine["worst"], reference["worst"]),
        collapses=collapses,
        compared=compared,
        gradients=gradients.mean(),
        bytes=costs.bytes.mean(),
        seconds=costs.seconds.mean(),
    )


def count_collapses(
    scores: pd.DataFrame, floors: Sequence[pd.DataFrame], metric: str
) -> tuple[int, int]:
    """Count the scores of sites that lie below half of a floor's score there.

    Args:
        scores: of a method, a row for each seed and a column for each site.
        floors: likewise, of methods that no method should fall far behind.
        metric: of a loss no half is taken; there is nothing to compare.

    Returns:
        The number of these scores, and the number of scores that could be compared.
    """
    if metric in LOWER_IS_BETTER or not floors:
        return 0, 0
    sites = scores.drop(columns=OVERALL, errors="ignore")
    highest = pd.concat(floors).groupby(level=0).max().reindex_like(sites)
    compared = sites.notna() & highest.notna()
    return int((sites < COLLAPSE * highest).sum().sum()), int(compared.sum().sum())
