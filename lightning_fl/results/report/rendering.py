"""Render pages from Jinja2 templates."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lightning_fl.results import formats

TEMPLATES = Path(__file__).parent / "templates"
FILTERS = (
    formats.bytes_text,
    formats.gain_text,
    formats.gain_unit,
    formats.heading,
    formats.in_unit,
    formats.metric_name,
    formats.score_text,
    formats.seconds_text,
    formats.unit,
)


def environment(*folders: Path) -> Environment:
    """Return an environment that looks for templates in `folders`, then in this package.

    Templates escape every text that is not `Markup`. They know `FILTERS` by their names.

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
    templates.filters.update({function.__name__: function for function in FILTERS})
    return templates


_own_templates = environment()


def render(template: str, **values: object) -> str:
    """Return a template of this package, filled with values."""
    return _own_templates.get_template(template).render(values)
