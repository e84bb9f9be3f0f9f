"""Test slices in the report, with the truth and each model's prediction outlined on them."""

from collections.abc import Sequence
from html import escape

from lightning_fl.results.formats import score_text
from lightning_fl.results.report import page
from lightning_fl.results.report.colours import MODEL_COLOURS, TRUTH
from lightning_fl.results.report.gallery import Slice, data_uri, read_slices
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.results.scores import MODELS
from lightning_fl.run_files import SITES

GALLERY_SITES = 8
GALLERY_SLICES = 4


def gallery(run: RunFolder) -> str:
    """Test slices of the first sites: one picture for each model, with the truth in it."""
    parts: list[str] = []
    models: set[str] = set()
    for site in run.results["sites"]:
        file = run.path / SITES / site / "gallery.safetensors"
        if len(parts) == GALLERY_SITES or not file.is_file():
            continue
        slices = list(read_slices(file, GALLERY_SLICES))
        models |= {model for piece in slices for model in piece.outlines}
        pictures = "".join(
            slice_html(piece, f"slice-{len(parts)}-{number}") for number, piece in enumerate(slices)
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
        key([model for model in MODELS if model in models]),
        *parts,
        page.paragraph(caption, "soft below"),
    )


def key(models: Sequence[str]) -> str:
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


def slice_html(piece: Slice, name: str) -> str:
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
