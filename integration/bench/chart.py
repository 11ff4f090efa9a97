"""Time against pods, a line for each peer, as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from integration.bench.figures import Figure
from integration.svg import picture, text

_WIDTH, _HEIGHT = 800, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 610, 40, 430
_COLOURS = ("#0b62a4", "#4da6e0", "#c0392b", "#d68910", "#7d3c98", "#555555")
_UNITS = ((60_000, "min"), (1000, "s"), (1, "ms"))


def chart(title: str, figures: Sequence[Figure]) -> str:
    """Both axes are logarithmic: proportional cost is a straight line."""
    xs = _Axis([figure.pods for figure in figures], _LEFT, _RIGHT)
    ys = _Axis([figure.spread.median for figure in figures], _BOTTOM, _TOP)
    peers = dict.fromkeys(figure.peer for figure in figures)
    lines = [
        text(_LEFT, 24, title, "start", 'font-weight="bold"'),
        *_grid(xs, ys, sorted({figure.pods for figure in figures})),
    ]
    ends = []
    for peer, colour in zip(peers, _COLOURS):
        own = sorted((f for f in figures if f.peer == peer), key=lambda figure: figure.pods)
        points = [(xs.at(figure.pods), ys.at(figure.spread.median)) for figure in own]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        ends.append((*points[-1], peer, colour))
    return picture(_WIDTH, _HEIGHT, [*lines, *_labels(ends)])


class _Axis:
    """From values to places, by their logarithms."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.least = 10 ** math.floor(math.log10(min(values)))
        self.most = max(values) * 1.1
        self._start = start
        self._scale = (end - start) / math.log(self.most / self.least)

    def at(self, value: float) -> float:
        return self._start + math.log(value / self.least) * self._scale


def _grid(xs: _Axis, ys: _Axis, pods: list[int]) -> list[str]:
    lines = []
    for count in pods:
        x = xs.at(count)
        lines.append(f'<path d="M{x:.1f} {_TOP}V{_BOTTOM}" stroke="#dddddd"/>')
        lines.append(text(x, _BOTTOM + 18, f"{count:,}", "middle"))
    time = float(ys.least)
    while time <= ys.most:
        y = ys.at(time)
        lines.append(f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}" stroke="#dddddd"/>')
        lines.append(text(_LEFT - 8, y + 4, _time(time), "end"))
        time *= 10
    lines.append(text((_LEFT + _RIGHT) / 2, _BOTTOM + 40, "pods", "middle"))
    return lines


def _labels(ends: list[tuple[float, float, str, str]]) -> list[str]:
    """Each peer's name behind its last point, moved down where two would lie on each other; before
    it where the line ends among others."""
    lines, lowest, right = [], -math.inf, max(x for x, *_ in ends)
    for x, y, peer, colour in sorted(ends, key=lambda end: end[1]):
        fill = f'fill="{colour}"'
        if x < right:
            lines.append(text(x - 8, y - 6, peer, "end", fill))
            continue
        lowest = max(y + 4, lowest + 15)
        lines.append(text(x + 9, lowest, peer, "start", fill))
    return lines


def _time(milliseconds: float) -> str:
    size, unit = next((size, unit) for size, unit in _UNITS if milliseconds >= size or size == 1)
    return f"{milliseconds / size:g} {unit}"
