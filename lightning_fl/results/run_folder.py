"""What the report knows about a run: nothing but the files in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.results.scores import headline_metric, metrics_of
from lightning_fl.results.summary import read_results
from lightning_fl.results.tables import read_costs, read_metrics, read_transcript
from lightning_fl.wire.records import CostRow, MetricRow, TranscriptRow

UNDIRECTED = "round,site,operation,bytes,seconds"
"""The columns of costs.csv before bytes were counted each way."""
Curve = dict[int, float]
"""Round -> value."""


@dataclass(frozen=True)
class RunFolder:
    """The files of a run, read.

    Attributes:
        path: the run's folder.
        config_text: config.yaml as it stands there.
        metrics: metrics.csv.
        costs: costs.csv; empty where it does not tell sent from received bytes.
        transcript: transcript.csv; empty where there is none.
        results: results.json.
        written: when results.json was written, in local time.
    """

    path: Path
    config_text: str
    metrics: list[MetricRow]
    costs: list[CostRow]
    transcript: list[TranscriptRow]
    results: Mapping[str, Any]
    written: datetime

    @property
    def metric(self) -> str:
        """The metric that the report is about."""
        return headline_metric(self.results)

    @property
    def deciding_metric(self) -> str:
        """The metric that the best round and the personal models were chosen by."""
        config = yaml.safe_load(self.config_text)
        evaluation = config.get("evaluation") if isinstance(config, dict) else None
        chosen = evaluation.get("metric") if isinstance(evaluation, dict) else None
        return str(chosen or self.metric)

    @property
    def finished(self) -> bool:
        """Whether the final evaluation was made: only it looks at the test split."""
        return bool(metrics_of(self.results, "test"))

    @property
    def trained(self) -> list[str]:
        """The training sites, in alphabetical order."""
        return [site for site in self.results["sites"] if site not in self.results["unseen"]]

    def chosen(self, key: str) -> str:
        """Short class name of what the config chose for a key, e.g. "PerFedAvg"; "" if nothing."""
        config = yaml.safe_load(self.config_text)
        choice = config.get(key) if isinstance(config, dict) else None
        name = choice.get("class_path", "") if isinstance(choice, dict) else choice
        return str(name or "").rsplit(".", 1)[-1]

    def validation(self) -> dict[str, Curve]:
        """Validation scores of the model under training by `deciding_metric`, by site and round.

        Where a round is there twice, the last row counts.
        """
        metric = self.deciding_metric
        rows = [row for row in self.metrics if row.split == "val" and row.metric == metric]
        models = {row.model for row in rows}
        model = "global" if "global" in models else "local"
        curves: dict[str, Curve] = {site: {} for site in self.trained}
        for row in sorted(rows, key=lambda row: row.round):
            if row.model == model and row.site in curves:
                curves[row.site][row.round] = row.value
        return {site: curve for site, curve in curves.items() if curve}


def read_run(path: Path) -> RunFolder:
    """Read a run's folder.

    Raises:
        FileNotFoundError: the run has not finished a round, or the folder is not one of a run.
    """
    results = path / "results.json"
    if not results.is_file():
        raise FileNotFoundError(
            f"Expected {results}, which a run writes after its first round; check that"
            f" {str(path)!r} is the folder of a run."
        )
    return RunFolder(
        path=path,
        config_text=(path / "config.yaml").read_text(encoding="utf-8"),
        metrics=read_metrics(path / "metrics.csv"),
        costs=_costs(path / "costs.csv"),
        transcript=_transcript(path / "transcript.csv"),
        results=read_results(results),
        written=datetime.fromtimestamp(results.stat().st_mtime).astimezone(),
    )


def _costs(path: Path) -> list[CostRow]:
    """The rows of costs.csv; none of an old one."""
    with path.open(encoding="utf-8") as file:
        header = file.readline().strip()
    return [] if header == UNDIRECTED else read_costs(path)


def _transcript(path: Path) -> list[TranscriptRow]:
    """The rows of transcript.csv, which old runs do not have."""
    return read_transcript(path) if path.is_file() else []
