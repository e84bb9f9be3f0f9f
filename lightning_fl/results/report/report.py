"""report.html: a run as one page that needs nothing but itself."""

from pathlib import Path

from lightning_fl.files import write_text
from lightning_fl.results.report import page, sections
from lightning_fl.results.report.audit import audit
from lightning_fl.results.report.choices import choices
from lightning_fl.results.report.costs import costs
from lightning_fl.results.report.membership import membership
from lightning_fl.results.report.new_hospital import new_hospital
from lightning_fl.results.report.pictures import gallery
from lightning_fl.results.report.privacy import differential_privacy
from lightning_fl.results.report.secure import secure_aggregation
from lightning_fl.results.report.volumes import volumes
from lightning_fl.results.run_folder import read_run
from lightning_fl.run_files import REPORT


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
