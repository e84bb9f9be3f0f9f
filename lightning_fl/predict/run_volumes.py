"""The end of a run whose data are whole scans: volumes.csv, masks, their means in results.json."""

import shutil
import time
from collections.abc import Sequence

from lightning_fl.data.module import FederatedDataModule
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.predict.views import evaluate_site
from lightning_fl.results.volume_tables import VolumeRow, write_volumes
from lightning_fl.run_files import MASKS, VOLUMES
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.wire.monitor import Monitor

OPERATION = "segment whole scans"


def evaluate_volumes(
    run: FinishedRun,
    data: FederatedDataModule,
    *,
    sites: Sequence[str],
    unseen: Sequence[str],
    evaluation: Evaluation,
    seed: int,
    round_: int,
    monitor: Monitor,
) -> list[VolumeRow]:
    """Score every site's whole test scans and write down what came of it.

    Leaves masks/ and volumes.csv in the run's folder.

    Args:
        run: finished, with its models on disk.
        data: of the run, bound to no site.
        sites: the training sites.
        unseen: those that only got the finished model.
        evaluation: of the run.
        seed: of the run; decides the split.
        round_: the run's last, for the monitor.
        monitor: hears of each scan.

    Returns:
        The rows of volumes.csv; none where the data hold no whole scans.
    """
    bound = {site: data.for_site(site, seed) for site in (*sites, *unseen)}
    scans = [one.scans(site, one.split(site).test) for site, one in bound.items()]
    if not any(scans):
        return []
    shutil.rmtree(run.folder / MASKS, ignore_errors=True)  # of a run that is resumed
    monitor.on_operation(round_=round_, operation=OPERATION, sites=sum(map(len, scans)))
    rows: list[VolumeRow] = []
    for site, one in bound.items():
        start = time.perf_counter()
        for found in evaluate_site(run, one, site, evaluation.gallery):
            rows += found
            seconds, start = time.perf_counter() - start, time.perf_counter()
            monitor.on_site_done(site=site, operation=OPERATION, seconds=seconds)
    write_volumes(run.folder / VOLUMES, rows)
    return rows
