"""The building blocks of an HTML page; whatever text they are given is escaped here."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

CSS = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5d6878; --line: #dfe3e9; --page: #fff;
  --tile: #f5f7f9; --warn: #fff4e0; --warn-line: #e69f00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b5; --line: #333b47;
  --page: #14181e; --tile: #1d232c; --warn: #33270f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 32px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 52px 0 10px; }
h3 { font-size: 15px; margin: 22px 0 6px; }
p { margin: 0 0 12px; max-width: 76ch; }
li { max-width: 76ch; }
.soft, figcaption, caption { color: var(--soft); font-size: 14px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 26px 0 0; }
.tile { flex: 1 1 auto; max-width: 360px; background: var(--tile); border-radius: 10px;
  padding: 14px 16px; }
.tile b { display: block; font-size: 22px; line-height: 1.25; margin: 2px 0; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; line-height: 1.35; display: block; }
figure { margin: 14px 0 22px; }
figure > svg { width: 100%; height: auto; display: block; }
figure svg text { font-family: inherit !important; }
figcaption, caption { max-width: 86ch; margin-top: 6px; text-align: left; }
caption { caption-side: bottom; padding-top: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 10px 0 18px; font-variant-numeric: tabular-nums;
  font-size: 15px; min-width: 64%; }
th, td { text-align: right; padding: 5px 0 5px 28px; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 500; font-size: 14px; }
tr.total td { border-bottom: 0; }
tr:not(.total) + tr.total td { border-top: 2px solid var(--ink); }
.warn { margin-top: 26px; background: var(--warn); border-left: 4px solid var(--warn-line);
  padding: 12px 16px; border-radius: 4px; }
.warn p { margin: 0 0 4px; } .warn ul { margin: 0; padding-left: 20px; }
.slices { display: flex; flex-wrap: wrap; gap: 14px 16px; }
.slice { display: flex; gap: 4px; }
.below { margin-top: 14px; }
.slice div { width: 133px; font-size: 13px; color: var(--soft);
  font-variant-numeric: tabular-nums; }
.slice svg { width: 100%; height: auto; display: block; border-radius: 4px; background: #000; }
.slice path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.key { display: inline-flex; align-items: center; gap: 6px; margin-right: 18px; font-size: 14px; }
.key i { width: 22px; height: 4px; border-radius: 2px; outline: 1px solid #0003; }
details { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; margin: 10px 0; }
summary { cursor: pointer; }
pre { overflow-x: auto; margin: 10px 0 0;
  font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; }
@media print { .slice, tr { break-inside: avoid; } }
"""


class Cell(NamedTuple):
    """One cell of a table: its text, and whether it is printed in bold."""

    text: str
    bold: bool = False


def page(title: str, *parts: str) -> str:
    """Put a page together from parts that are HTML already."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Put parts under a heading."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(text: str, css: str = "") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{css}">{escape(text)}</p>' if css else f"<p>{escape(text)}</p>"


def tile(label: str, number: str, below: str) -> str:
    """Return one headline number with what it is above and what it means below."""
    return (
        f'<div class="tile"><span>{escape(label)}</span><b>{escape(number)}</b>'
        f"<span>{escape(below)}</span></div>"
    )


def figure(content: str, caption: str) -> str:
    """Return a diagram (HTML) with its caption (text)."""
    return f"<figure>\n{content}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    caption: str,
    totals: Sequence[Sequence[str | Cell]] = (),
) -> str:
    """Return a table whose last rows, the totals, stand under a line.

    Args:
        header: names of the columns; the first column is text, the others are numbers.
        rows: the cells as text.
        caption: what the table shows.
        totals: rows that sum the others up.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = [_row(row, "") for row in rows] + [_row(row, ' class="total"') for row in totals]
    return (
        f'<div class="scroll"><table>\n<caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody></table></div>"
    )


def _row(cells: Sequence[str | Cell], attributes: str) -> str:
    """Return a row of a table."""
    inner = []
    for cell in cells:
        text, bold = cell if isinstance(cell, Cell) else (cell, False)
        inner.append(f"<td><b>{escape(text)}</b></td>" if bold else f"<td>{escape(text)}</td>")
    return f"<tr{attributes}>{''.join(inner)}</tr>"


def folded(title: str, text: str) -> str:
    """Return preformatted text that opens on a click."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
