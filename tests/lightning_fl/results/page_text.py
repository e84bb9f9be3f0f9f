"""What a person reads on a page."""

import re
from html import unescape


def text_of(html: str) -> str:
    """The page without its tags, each run of white space as one blank."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def cells(*texts: str) -> str:
    """Neighbouring cells of a table, as HTML."""
    return "".join(f"<td>{text}</td>" for text in texts)
