"""The contents list of a page, from the headings of its sections."""

import re
from typing import NamedTuple

from markupsafe import Markup

SECTION = re.compile(r"<section>\s*<h2>(.*?)</h2>", re.DOTALL)


class Heading(NamedTuple):
    """Hold the heading of a section.

    Attributes:
        text: as the page has it.
        id: of the section.
    """

    text: Markup
    id: str


def headings(sections: str) -> list[Heading]:
    """Return the headings of rendered sections, `<section><h2>...</h2>`, in their order."""
    return [_heading(match) for match in SECTION.finditer(sections)]


def with_ids(sections: str) -> Markup:
    """Return rendered sections that can be linked to."""

    def with_id(match: re.Match[str]) -> str:
        return match[0].replace("<section>", f'<section id="{_heading(match).id}">', 1)

    return Markup(SECTION.sub(with_id, sections))


def _heading(match: re.Match[str]) -> Heading:
    text = Markup(match[1].strip())
    return Heading(text, "section-" + re.sub(r"\W+", "-", text.striptags().lower()).strip("-"))
