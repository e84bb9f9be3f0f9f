"""The scores of a site's patients: names stay in its folder, numbers go into its answer."""

from collections.abc import Mapping, Sequence

import pytorch_lightning as pl

from lightning_fl.results.case_statistics import SiteCases, Statistics, case_statistics
from lightning_fl.results.case_tables import CaseRow, case_rows, write_cases
from lightning_fl.run_files import CASES
from lightning_fl.seeds import derive_seed
from lightning_fl.site.local_state import LocalState
from lightning_fl.training.case_scores import CaseScores, score_cases, shows_cases


class CaseEvaluation:
    """Scores the patients of some splits of a site by several models.

    Args:
        state: of the site.
        splits: those that have patients, e.g. "val" and "test".
    """

    def __init__(self, state: LocalState, splits: Sequence[str]) -> None:
        self.state = state
        self.splits = splits

    def run(self, models: Mapping[str, pl.LightningModule]) -> SiteCases:
        """Write cases.csv into the site's folder, and return what may travel.

        Where the run hides counts, only means travel: an interval and a standard deviation together
        tell the number of patients. For tasks without masks nothing is written.
        """
        if not all(shows_cases(self.state.data.loader(split)) for split in self.splits):
            return {}
        rows: list[CaseRow] = []
        answer: SiteCases = {}
        distinct = {id(module): module for module in models.values()}  # each is run once
        scored = {key: self._score(module) for key, module in distinct.items()}
        patients = self.state.data.split(self.state.name)
        for name, module in models.items():
            for split, of_split in scored[id(module)].items():
                names = getattr(patients, split)
                rows += case_rows(of_split, names, site=self.state.name, model=name, split=split)
                answer.setdefault(name, {})[split] = self._statistics(of_split)
        if rows:
            write_cases(self.state.store.folder / CASES, rows)
        return answer

    def _score(self, module: pl.LightningModule) -> dict[str, CaseScores]:
        data, options = self.state.data, self.state.setup.trainer
        spacing = data.pixel_size(self.state.name)
        scores = {
            split: score_cases(module, data.loader(split), options, spacing)
            for split in self.splits
        }
        return {split: of_split for split, of_split in scores.items() if of_split is not None}

    def _statistics(self, scores: CaseScores) -> dict[str, Statistics]:
        setup = self.state.setup
        statistics = case_statistics(scores, derive_seed(setup.seed, self.state.name, "bootstrap"))
        if not setup.aggregator.hides_samples:
            return statistics
        return {metric: {"mean": values["mean"]} for metric, values in statistics.items()}
