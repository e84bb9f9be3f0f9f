"""Hands the job to an NVFlare server."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning_fl.engines.nvflare.job import JOB, Recipe


def submit(session: Any, post: Path, clients: dict[str, str], least: int) -> str:
    """Submit the job.

    Args:
        session: with the server.
        post: folder of the coordinator's `Post`, on the server's machine.
        clients: NVFlare's name of each site.
        least: sites without which it does not start.

    Returns:
        The job's id.
    """
    recipe = Recipe(str(post), clients, simulated=False, least=least)
    with TemporaryDirectory() as folder:
        recipe.export(folder)
        job: str = session.submit_job(str(Path(folder) / JOB))
    return job
