"""report.html: a run as one page that needs nothing but itself.

`python -m lightning_fl.results.report RUN` writes it again from the files of a run's folder.
"""

import argparse
from html import escape
from pathlib import Path

from lightning_fl.atomic import write_text
from lightning_fl.results import page, sections
from lightning_fl.results.choices import choices
from lightning_fl.results.colours import MODEL_COLOURS, TRUTH
from lightning_fl.results.costs import costs
from lightning_fl.results.differential_privacy import differential_privacy
from lightning_fl.results.formats import score_text
from lightning_fl.results.gallery import Slice, data_uri, read_slices
from lightning_fl.results.new_hospital import new_hospital
from lightning_fl.results.run_folder import RunFolder, read_run
from lightning_fl.results.scores import MODELS
from lightning_fl.results.secure import secure_aggregation

GALLERY_SITES = 8
GALLERY_SLICES = 4


def write_report(run: Path) -> Path:
    """Write report.html into a run's folder, from the files of that folder alone.

    Args:
        run: folder with config.yaml, metrics.csv, costs.csv and results.json, and where there are
            any transcript.csv and checkpoints/sites/<site>/gallery.safetensors.

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
        choices(record),
        new_hospital(record),
        costs(record),
        secure_aggregation(record),
        differential_privacy(record),
        sections.reproduction(record),
    )
    path = run / "report.html"
    write_text(path, html)
    return path


def gallery(run: RunFolder) -> str:
    """Test slices of the first sites: one picture for each model, with the truth in it."""
    parts: list[str] = []
    models: set[str] = set()
    for site in run.results["sites"]:
        file = run.path / "checkpoints" / "sites" / site / "gallery.safetensors"
        if len(parts) == GALLERY_SITES or not file.is_file():
            continue
        slices = list(read_slices(file, GALLERY_SLICES))
        models |= {model for piece in slices for model in piece.outlines}
        pictures = "".join(
            _slice(piece, f"slice-{len(parts)}-{number}") for number, piece in enumerate(slices)
        )
        parts.append(f'<h3>{escape(site)}</h3>\n<div class="slices">{pictures}</div>')
    if not parts:
        return ""
    sites = len(run.results["sites"])
    caption = (
        "Slices of the test split that have something to find, spread evenly over it and each"
        " shown once for each model: the truth in yellow, over it the outline of the model named"
        " below, with its Dice on this slice alone."
    )
    if sites > len(parts):
        caption += f" These are {len(parts)} of {sites} sites."
    return page.section(
        "Test slices",
        _key([model for model in MODELS if model in models]),
        *parts,
        page.paragraph(caption, "soft below"),
    )


def _key(models: list[str]) -> str:
    """The legend of the outlines."""
    colours = {"truth": TRUTH, **{model: MODEL_COLOURS[model] for model in models}}
    return (
        "<p>"
        + "".join(
            f'<span class="key"><i style="background:{colour}"></i>{name}</span>'
            for name, colour in colours.items()
        )
        + "</p>"
    )


def _slice(piece: Slice, name: str) -> str:
    """A slice once for each model, side by side; the image itself is in the page only once."""
    shown = []
    for number, (model, path) in enumerate(piece.outlines.items()):
        image = (
            f'<image id="{name}" width="{piece.width}" height="{piece.height}"'
            f' preserveAspectRatio="none" href="{data_uri(piece.png)}"/>'
            if number == 0
            else f'<use href="#{name}"/>'
        )
        shown.append(
            f'<div><svg viewBox="0 0 {piece.width} {piece.height}" role="img"'
            f' aria-label="truth and {model} prediction">{image}'
            f'<path d="{piece.truth}" stroke="{TRUTH}" stroke-width="3.2"/>'
            f'<path d="{path}" stroke="{MODEL_COLOURS[model]}" stroke-width="1.7"/></svg>'
            f"{model} {score_text(piece.dice[model], 'dice')} %</div>"
        )
    return f'<div class="slice">{"".join(shown)}</div>'


def main() -> None:
    """Rewrite the report of the run named on the command line."""
    parser = argparse.ArgumentParser(description="Write report.html again from a run's files.")
    parser.add_argument("run", type=Path, help="the run's folder")
    write_report(parser.parse_args().run)


if __name__ == "__main__":
    main()
