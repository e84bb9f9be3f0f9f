"""report.html: a run as one page that needs nothing but itself.

`python -m lightning_fl.results.report RUN` writes it again from the files of a run's folder.
"""

import argparse
from pathlib import Path

from lightning_fl.atomic import write_text
from lightning_fl.results import page, sections
from lightning_fl.results.audit import audit
from lightning_fl.results.choices import choices
from lightning_fl.results.costs import costs
from lightning_fl.results.differential_privacy import differential_privacy
from lightning_fl.results.membership import membership
from lightning_fl.results.new_hospital import new_hospital
from lightning_fl.results.pictures import gallery
from lightning_fl.results.run_folder import read_run
from lightning_fl.results.secure import secure_aggregation
from lightning_fl.results.volumes import is_directions, volumes, write_volume_report

REPORT = "report.html"


def write_report(run: Path) -> Path:
    """Write report.html into a run's folder, from the files of that folder alone.

    Args:
        run: folder with config.yaml, metrics.csv, costs.csv and results.json, and where there are
            any transcript.csv, audit.json and checkpoints/sites/<site>/gallery.safetensors.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: the run has not finished a round, or the folder is not one of a run.
    """
    record = read_run(run)
    html = page.page(
        f"{record.chosen('algorithm')} – {run.resolve().name}",  # noqa: RUF001  an en dash
        sections.header(record),
        sections.headline(record),
        sections.losses(record),
        sections.scores(record),
        sections.training(record),
        gallery(record),
        volumes(run),
        choices(record),
        new_hospital(record),
        costs(record),
        secure_aggregation(record),
        audit(record),
        membership(record),
        differential_privacy(record),
        sections.reproduction(record),
    )
    path = run / REPORT
    write_text(path, html)
    return path


def main() -> None:
    """Rewrite the report of the run named on the command line."""
    parser = argparse.ArgumentParser(description="Write report.html again from a run's files.")
    parser.add_argument("run", type=Path, help="the run's folder")
    run: Path = parser.parse_args().run
    (write_volume_report if is_directions(run) else write_report)(run)


if __name__ == "__main__":
    main()
