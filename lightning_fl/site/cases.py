"""The scores of a site's patients: names stay in its folder, numbers go into its answer."""

from collections.abc import Mapping

from lightning_fl.results.case_statistics import SiteCases, Statistics, case_statistics
from lightning_fl.results.case_tables import case_rows, write_cases
from lightning_fl.run_files import CASES
from lightning_fl.seeds import derive_seed
from lightning_fl.site.local_state import LocalState
from lightning_fl.training.case_scores import CaseScores


def record_cases(state: LocalState, scores: Mapping[str, Mapping[str, CaseScores]]) -> SiteCases:
    """Write cases.csv into a site's folder, and return what may travel: statistics.

    Args:
        state: of the site.
        scores: by model and split; none of a task without masks, and then nothing is written.
    """
    patients = state.data.split(state.name)
    rows = [
        row
        for model, splits in scores.items()
        for split, of_split in splits.items()
        for row in case_rows(
            of_split, getattr(patients, split), site=state.name, model=model, split=split
        )
    ]
    if rows:
        write_cases(state.store.folder / CASES, rows)
    return {
        model: {split: _statistics(state, of_split) for split, of_split in splits.items()}
        for model, splits in scores.items()
        if splits
    }


def _statistics(state: LocalState, scores: CaseScores) -> dict[str, Statistics]:
    """Return the statistics of a split; means alone where the run hides counts.

    A standard deviation and an interval of the mean together tell the number of patients.
    """
    setup = state.setup
    statistics = case_statistics(scores, derive_seed(setup.seed, state.name, "bootstrap"))
    if not setup.aggregator.hides_samples:
        return statistics
    return {metric: {"mean": values["mean"]} for metric, values in statistics.items()}
