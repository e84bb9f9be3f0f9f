"""Values that show under the pointer: invisible areas with an SVG title, over a diagram."""

from collections.abc import Iterable
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.container import BarContainer

DPI = 72
"""Resolution of matplotlib's SVG: at it, a pixel of the layout is a unit of the picture."""
AROUND = 6.0
"""Units that the area of a point reaches to each side."""


class HoverArea(NamedTuple):
    """Hold an area with a text, in data coordinates.

    Attributes:
        left: smallest x.
        right: largest x; equal to `left` for a point.
        bottom: smallest y.
        top: largest y; equal to `bottom` for a point.
        text: what is shown.
    """

    left: float
    right: float
    bottom: float
    top: float
    text: str


def point_areas(points: Iterable[tuple[float, float, str]]) -> list[HoverArea]:
    """Return an area for each point (x, y, text)."""
    return [HoverArea(x, x, y, y, text) for x, y, text in points]


def bar_areas(bars: BarContainer, texts: Iterable[str]) -> list[HoverArea]:
    """Return an area for each bar of a group."""
    return [
        HoverArea(bar.get_x(), bar.get_x() + bar.get_width(), 0.0, bar.get_height(), text)
        for bar, text in zip(bars, texts, strict=True)
    ]


def hover_svg(axes: Axes, areas: Iterable[HoverArea]) -> Markup:
    """Draw the areas, once the layout of the figure is final.

    Args:
        axes: of a figure with the resolution `DPI`, which has been drawn.
        areas: those whose values are not finite are left out.

    Returns:
        A `<g>` element for the end of the figure's `<svg>`.
    """
    height = axes.figure.bbox.height
    rectangles = []
    for area in areas:
        corners = [(area.left, area.bottom), (area.right, area.top)]
        (left, low), (right, high) = axes.transData.transform(corners)
        if not (high - low < height and abs(left) + abs(low) < 1e6):  # NaN, or out of the picture
            continue
        wide, tall = AROUND * (left == right), AROUND * (low == high)
        rectangles.append(
            Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">{}</rect>').format(
                left - wide,
                height - high - tall,
                right - left + 2 * wide,
                high - low + 2 * tall,
                Markup("<title>{}</title>").format(area.text),
            )
        )
    return Markup('<g fill="none" pointer-events="all">{}</g>').format(Markup().join(rectangles))
