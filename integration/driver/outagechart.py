"""Ping replies of pods over time, a row a pod, a panel a run, as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from integration.driver.outage import Outage, Run
from integration.svg import picture, text

_WIDTH = 700
_LEFT, _RIGHT, _EDGE = 64, 610, 690
_LEGEND, _FIRST_PANEL = 48, 64
_TITLE_HEIGHT, _LABEL_HEIGHT, _ROW_HEIGHT, _PANEL_GAP = 24, 15, 21, 14
# By kind of ping: to be told apart without colours, too.
_HEIGHTS = {"reply": 15, "late": 9, "lost": 4}
_LEGENDS = {
    "reply": "a ping with a reply",
    "late": "with a late one, after the next ping was sent",
    "lost": "without a reply",
}
_LABEL_SIZE, _LABEL_GAP = 12, 4
_LETTER_WIDTH = 0.62 * _LABEL_SIZE  # more than the average: labels must not touch
_BEFORE_SECONDS = 2.0
_AFTER = 0.4  # of what comes before: room for the words of the last mark
_SOFT = f'class="soft" font-size="{_LABEL_SIZE}"'
_MOST_TICKS, _STEPS = 14, (1, 2, 5, 10, 20, 60)
_FOOT_HEIGHT = 103

# It brings its own paper, so that it can be read on a page of either kind.
_LIGHT = {
    "rect": "fill:#ffffff",
    "text": "fill:#1f2328",
    ".soft": "fill:#59636e",
    ".grid": "stroke:#d8dee4",
    ".mark": "stroke:#59636e",
    ".reply": "stroke:#0969da",
    ".late": "stroke:#9a6700",
    ".lost": "stroke:#d1242f",
}
_DARK = {
    "rect": "fill:#0d1117",
    "text": "fill:#f0f6fc",
    ".soft": "fill:#a5adb6",
    ".grid": "stroke:#30363d",
    ".mark": "stroke:#a5adb6",
    ".reply": "stroke:#58a6ff",
    ".late": "stroke:#e3b341",
    ".lost": "stroke:#ff7b72",
}


def chart(outage: Outage) -> str:
    """A bar for each ping, where it was sent; its length says how it was answered."""
    axis = _Axis(*_span(outage.runs))
    panels, top = [], _FIRST_PANEL
    for run in outage.runs:
        panels.append(_Panel(run, axis, top, outage.interval))
        top = panels[-1].bottom + _PANEL_GAP
    bottom = panels[-1].bottom
    drawn = [line for panel in panels for line in panel.lines()]
    lines = [*_grid(axis, bottom), *_head(outage), *drawn, *_caption(outage, bottom)]
    return picture(_WIDTH, bottom + _FOOT_HEIGHT, lines, _style())


def _span(runs: Sequence[Run]) -> tuple[float, float]:
    """From shortly before the reload until shortly after the last thing that happened."""
    marks = [at for run in runs for at in run.marks.values()]
    ends = [run.outage(pod)[1] for run in runs for pod in run.replies]
    last = max(at for at in (*marks, *ends) if at != math.inf)
    start = max(min(marks) - _BEFORE_SECONDS, min(run.sent[0] for run in runs))
    return start, last + _AFTER * (last - start)


class _Axis:
    """From seconds to places."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end

    def at(self, seconds: float) -> float:
        return _LEFT + (seconds - self.start) / (self.end - self.start) * (_RIGHT - _LEFT)

    def ticks(self) -> list[int]:
        span = self.end - self.start
        step = next((step for step in _STEPS if span / step <= _MOST_TICKS), _STEPS[-1])
        return list(range(math.ceil(self.start / step) * step, math.floor(self.end) + 1, step))


class _Panel:
    """A run: its title, what happened when, and its pods' pings."""

    def __init__(self, run: Run, axis: _Axis, top: int, interval: float) -> None:
        self._run, self._axis, self._top, self._interval = run, axis, top, interval
        self._labels = _labels(run, axis)
        depth = 1 + max(label.row for label in self._labels)
        self._rows = top + _TITLE_HEIGHT + depth * _LABEL_HEIGHT + _LABEL_GAP
        self.bottom = self._rows + len(run.replies) * _ROW_HEIGHT

    def lines(self) -> Iterator[str]:
        yield text(_LEFT, self._top + 13, self._run.title, "start", 'font-weight="bold"')
        yield text(_EDGE, self._rows - 6, "outage", "end", _SOFT)
        for label in self._labels:
            y = self._top + _TITLE_HEIGHT + label.row * _LABEL_HEIGHT
            yield f'<path class="mark" d="M{label.x:.1f} {y}V{self.bottom}"/>'
            size = f'font-size="{_LABEL_SIZE}"'
            yield text(label.x + _LABEL_GAP, y + 11, label.words, "start", size)
        for number, pod in enumerate(self._run.replies):
            yield from self._pod(number, pod)

    def _pod(self, number: int, pod: str) -> Iterator[str]:
        y = self._rows + (number + 1) * _ROW_HEIGHT - 3
        yield text(_LEFT - 8, y - 3, f"pod {number + 1}", "end")
        yield text(_EDGE, y - 3, self._lasted(pod), "end")
        times: dict[str, list[float]] = {kind: [] for kind in _HEIGHTS}
        for sent, reply in zip(self._run.sent, self._run.replies[pod]):
            if self._axis.start <= sent <= self._axis.end:
                times[_kind(sent, reply, self._interval)].append(sent)
        for kind, sent_at in times.items():
            yield _bars(kind, y, map(self._axis.at, sent_at))

    def _lasted(self, pod: str) -> str:
        begin, end = self._run.outage(pod)
        if end == math.inf:  # as far as anybody knows, who looked until then
            return f"> {math.floor(self._run.sent[-1] - begin)} s"
        return f"{end - begin:.1f} s"


def _kind(sent: float, reply: float | None, interval: float) -> str:
    """A ping that is sent before there is carrier waits for it, and is answered: but late."""
    if reply is None:
        return "lost"
    return "late" if reply - sent > interval else "reply"


def _bars(kind: str, y: int, xs: Iterable[float]) -> str:
    bars = "".join(f"M{x:.1f} {y}v-{_HEIGHTS[kind]}" for x in xs)
    return f'<path class="{kind}" d="{bars}"/>'


@dataclass(frozen=True)
class _Label:
    """The words at a mark's line, to the right of it."""

    words: str
    x: float
    row: int

    def covers(self, x: float) -> bool:
        """Whether a line there, not left of its own, would cross it or come close."""
        return x <= self.x + 2 * _LABEL_GAP + len(self.words) * _LETTER_WIDTH


def _labels(run: Run, axis: _Axis) -> list[_Label]:
    """Each below those that its line would cross."""
    labels: list[_Label] = []
    for name, seconds in sorted(run.marks.items(), key=lambda mark: mark[1]):
        x = axis.at(seconds)
        words = f"{name} {seconds:.1f} s" if seconds else name
        row = 1 + max((one.row for one in labels if one.covers(x)), default=-1)
        labels.append(_Label(words, x, row))
    return labels


def _grid(axis: _Axis, bottom: int) -> Iterator[str]:
    for tick in axis.ticks():
        x = axis.at(tick)
        yield f'<path class="grid" d="M{x:.1f} {_FIRST_PANEL + _TITLE_HEIGHT}V{bottom}"/>'
        yield text(x, bottom + 16, str(tick), "middle")
    middle = (_LEFT + _RIGHT) / 2
    yield text(middle, bottom + 34, "seconds since rmmod, by the guest's clock", "middle")


def _head(outage: Outage) -> Iterator[str]:
    """The title, and what the bars mean that there are."""
    large = 'font-weight="bold" font-size="16"'
    yield text(_LEFT, 24, "Ping replies of pods while a NIC's driver is reloaded", "start", large)
    kinds = {
        _kind(sent, reply, outage.interval)
        for run in outage.runs
        for replies in run.replies.values()
        for sent, reply in zip(run.sent, replies)
    }
    x = float(_LEFT)
    for kind, words in _LEGENDS.items():
        if kind in kinds:
            yield _bars(kind, _LEGEND, (x + 1, x + 6, x + 11))
            yield text(x + 20, _LEGEND - 2, words, "start", _SOFT)
            x += 30 + len(words) * _LETTER_WIDTH


def _caption(outage: Outage, bottom: int) -> Iterator[str]:
    pods = max(len(run.replies) for run in outage.runs)
    said = (
        f"{pods} pods (macvlan over VLAN 3) ping their gateway, IPv4, every"
        f" {outage.interval * 1000:.0f} ms (median).",
        f"Debian's kernel {outage.kernel}, driver {outage.driver}.",
        f"{outage.machine}.",
    )
    for number, words in enumerate(said):
        y = bottom + 58 + number * 17
        yield text(_LEFT, y, words, "start", _SOFT)


def _style() -> str:
    bars = ".reply,.late,.lost{stroke-width:2.4}.mark{stroke-dasharray:3 2}"
    return f"{bars}{_rules(_LIGHT)}@media (prefers-color-scheme:dark){{{_rules(_DARK)}}}"


def _rules(colours: dict[str, str]) -> str:
    return "".join(f"{selector}{{{colour}}}" for selector, colour in colours.items())
