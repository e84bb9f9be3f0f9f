"""Render pages from Jinja2 templates."""

from inspect import getmembers, isfunction
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lightning_fl.results import formats
from lightning_fl.results.report import contents
from lightning_fl.results.report.colours import MODEL_COLOURS, TRUTH

TEMPLATES = Path(__file__).parent / "templates"


def environment(*folders: Path) -> Environment:
    """Return an environment that looks for templates in `folders`, then in this package.

    Templates escape every text that is not `Markup`. Each function of `formats` is
    a filter.

    Args:
        *folders: of templates that extend "page.html" or import from "macros.html".
    """
    templates = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(getmembers(formats, isfunction))
    templates.filters.update(headings=contents.headings, with_ids=contents.with_ids)
    templates.globals.update(TRUTH=TRUTH, MODEL_COLOURS=MODEL_COLOURS)
    return templates


_own_templates = environment()


def render(template: str, **values: object) -> str:
    """Return a template of this package, filled with values."""
    return _own_templates.get_template(template).render(values)
