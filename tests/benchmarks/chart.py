"""A bar chart as SVG, written by hand: one panel for each column, one bar for each peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH = 880
_PANEL = 440  # width of one of two panels side by side
_TITLE = 26
_BAR = 15
_STEP = 19
_LABEL = 200  # where bars begin
_LONGEST = 165
_GAP = 22
_OURS, _BASE, _OTHER = "#1f6f8b", "#444444", "#b9c4c9"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its length, and who it is."""

    label: str
    value: float
    is_ours: bool = False
    is_base: bool = False


def draw(title: str, panels: Mapping[str, Sequence[Bar]]) -> str:
    """Return the chart; in each panel the longest bar comes first."""
    parts: list[str] = []
    top = 44
    items = list(panels.items())
    for start in range(0, len(items), 2):
        row = items[start : start + 2]
        for number, (name, bars) in enumerate(row):
            parts += _panel(number * _PANEL, top, name, bars)
        top += _TITLE + max(len(bars) for _, bars in row) * _STEP + _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}"'
        f' height="{top}" font-family="sans-serif" font-size="12" role="img">'
    )
    return "\n".join(
        [
            head,
            f"<title>{escape(title)}</title>",
            f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>',
            f'<text x="12" y="24" font-size="15" fill="#222222">{escape(title)}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def _panel(left: int, top: int, name: str, bars: Sequence[Bar]) -> list[str]:
    longest = max((bar.value for bar in bars), default=1.0)
    text = f'<text x="{left + 12}" y="{top + 14}" font-weight="bold" fill="#222222">'
    parts = [f"{text}{escape(name)}</text>"]
    for number, bar in enumerate(sorted(bars, key=lambda bar: -bar.value)):
        y = top + _TITLE + number * _STEP
        fill = _OURS if bar.is_ours else _BASE if bar.is_base else _OTHER
        width = max(1.0, bar.value / longest * _LONGEST)
        start = left + _LABEL
        place = f'x="{start - 6}" y="{y + 12}" text-anchor="end"'
        parts += [
            f'<text {place} fill="#222222">{escape(bar.label)}</text>',
            f'<rect x="{start}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{fill}"/>',
            f'<text x="{start + width + 5:.1f}" y="{y + 12}" fill="#222222">{bar.value:.2f}</text>',
        ]
    return parts
