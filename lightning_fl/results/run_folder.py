"""A run as the report reads it: from the files in its folder alone."""

from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.results.scores import headline_metric, metrics_of
from lightning_fl.results.summary import read_results
from lightning_fl.results.tables import read_costs, read_metrics
from lightning_fl.run_files import settings_file
from lightning_fl.wire.records import TRAINING


class RunFolder:
    """Holds what the report reads of one run.

    Args:
        path: the run's folder.

    Attributes:
        name: the folder's own name.
        settings_name: the file with the settings, config.yaml or settings.yaml.
        config_text: that file as it stands there.
        results: results.json.
        written: when results.json was written, in local time.

    Raises:
        FileNotFoundError: the run has not finished a round, or the folder is not one of a run.
    """

    def __init__(self, path: Path) -> None:
        results = path / "results.json"
        if not results.is_file():
            raise FileNotFoundError(
                f"Expected {results}, which a run writes after its first round; check that"
                f" {str(path)!r} is the folder of a run."
            )
        self.path = path
        self.name = path.resolve().name
        settings = settings_file(path)
        self.settings_name = settings.name
        self.config_text = settings.read_text(encoding="utf-8")
        self.config: dict[str, Any] = yaml.safe_load(self.config_text) or {}
        self.results = read_results(results)
        self.written = datetime.fromtimestamp(results.stat().st_mtime).astimezone()

    @property
    def metric(self) -> str:
        """The metric that the report is about."""
        return headline_metric(self.results)

    @property
    def deciding_metric(self) -> str:
        """The metric that the best round and the personal models were chosen by."""
        return (self.config.get("evaluation") or {}).get("metric") or self.metric

    @property
    def finished(self) -> bool:
        """Whether the final evaluation was made: only it looks at the test split."""
        return bool(metrics_of(self.results, "test"))

    @property
    def trained(self) -> list[str]:
        """The training sites, in alphabetical order."""
        return [site for site in self.results["sites"] if site not in self.results["unseen"]]

    @property
    def title(self) -> str:
        """Algorithm, network and aggregator, e.g. "PerFedAvg · Unet · CyclicCKKS"."""
        choices = (self.chosen(key) for key in ("algorithm", "net", "aggregator"))
        return " · ".join(filter(None, choices))

    def chosen(self, key: str) -> str:
        """Return the class that the config chose for a key, e.g. "PerFedAvg"; "" if nothing."""
        choice = self.config.get(key)
        path = choice.get("class_path", "") if isinstance(choice, dict) else choice
        return str(path or "").rpartition(".")[2]

    def validation(self) -> dict[str, dict[int, float]]:
        """Return the validation scores of the model under training, by site and round.

        The metric is `deciding_metric`. Where a round is there twice, the last row counts.
        """
        metric = self.deciding_metric
        rows = [
            row
            for row in read_metrics(self.path / "metrics.csv")
            if row.split == "val" and row.metric == metric
        ]
        model = "global" if any(row.model == "global" for row in rows) else "local"
        curves: dict[str, dict[int, float]] = {site: {} for site in self.trained}
        for row in sorted(rows, key=lambda row: row.round):
            if row.model == model and row.site in curves:
                curves[row.site][row.round] = row.value
        return {site: curve for site, curve in curves.items() if curve}

    def training(self) -> dict[str, dict[str, dict[int, float]]]:
        """Return the training curves by metric, site and round; {} where none were recorded.

        The samples per second are those of `training_step`, by the seconds in costs.csv.
        """
        curves: dict[str, dict[str, dict[int, float]]] = {}
        for row in read_metrics(self.path / "metrics.csv"):
            if row.model == TRAINING:
                curves.setdefault(row.metric, {}).setdefault(row.site, {})[row.round] = row.value
        for cost in read_costs(self.path / "costs.csv") if curves else ():
            samples = curves["samples"].get(cost.site, {}).get(cost.round)
            if cost.operation == "train: fit" and samples is not None and cost.seconds:
                speed = curves.setdefault("samples_per_second", {}).setdefault(cost.site, {})
                speed[cost.round] = samples / cost.seconds
        return curves
