"""What the rigs' charts are drawn with."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def picture(width: int, height: int, lines: Iterable[str], style: str = "") -> str:
    """An SVG document on white paper, unless its style sheet says otherwise."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="13">'
    )
    sheet = [f"<style>{style}</style>"] if style else []
    paper = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, *sheet, paper, *lines, "</svg>", ""])


def text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    """`anchor` says which end of the words is at x; `more` are further attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'
