"""What happened when, and which pings were answered: as text, and as an HTML file. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_BEFORE = 1.0  # seconds that are shown before the loss
_AFTER = 1.0
_LETTERS = "abcdefghi"


@dataclass(frozen=True)
class Event:
    """Something that was done to the node, or on it."""

    name: str
    at: float


@dataclass(frozen=True)
class Track:
    """A pod's pings: when those were sent that were answered, at least one before a loss and one
    after it."""

    pod: str
    answered: tuple[float, ...]

    def outage(self, loss: float, interval: float) -> tuple[float, float]:
        """From the first lost ping to the first that was answered again.

        The longest silence after a loss: the first pings of the moment may still have got through.
        """
        pairs = zip(self.answered, self.answered[1:])
        after = [(before + interval, again) for before, again in pairs if again > loss]
        return max(after, key=lambda pair: pair[1] - pair[0], default=(loss, loss))


@dataclass(frozen=True)
class Timeline:
    """The first event is the loss, the last what ended it."""

    events: tuple[Event, ...]
    tracks: tuple[Track, ...]
    interval: float  # of pings

    @property
    def loss(self) -> float:
        return self.events[0].at

    def outages(self) -> list[tuple[str, float, float]]:
        """Each pod with the beginning and the end of its outage, in seconds since the loss."""
        found = [(track.pod, *track.outage(self.loss, self.interval)) for track in self.tracks]
        return [(pod, begin - self.loss, end - self.loss) for pod, begin, end in found]

    @property
    def span(self) -> tuple[float, float]:
        """What is shown: as far as there were pings."""
        first = max(track.answered[0] for track in self.tracks)
        last = min(track.answered[-1] for track in self.tracks)
        healed = max(self.loss + end for _, _, end in self.outages())
        end = max(healed, self.events[-1].at)
        return max(first, self.loss - _BEFORE), max(end, min(last, end + _AFTER))


# --- As text --------------------------------------------------------------------------------------


def text(timeline: Timeline, columns: int) -> list[str]:
    """A line a pod: `#` where pings were answered, `.` where none was."""
    label = max(len(track.pod) for track in timeline.tracks) + 2
    start, end = timeline.span
    cells = max(10, min(columns - label, int((end - start) / timeline.interval / 2)))
    width = (end - start) / cells
    lines = [
        f"{track.pod:{label}}" + "".join(_cells(track, start, width, cells))
        for track in timeline.tracks
    ]
    marks = [" "] * cells
    for letter, event in zip(_LETTERS, timeline.events):
        marks[_place(min(cells - 1, int((event.at - start) / width)), marks)] = letter
    lines.append((" " * label + "".join(marks)).rstrip())
    return lines + [
        f"{letter}  {event.at - timeline.loss:5.2f} s  {event.name}"
        for letter, event in zip(_LETTERS, timeline.events)
    ]


def _cells(track: Track, start: float, width: float, cells: int) -> list[str]:
    answered = {int((at - start) / width) for at in track.answered}
    return ["#" if cell in answered else "." for cell in range(cells)]


def _place(wanted: int, marks: Sequence[str]) -> int:
    """The wanted place, or the next that is free."""
    free = [place for place, mark in enumerate(marks) if mark == " "]
    return next((place for place in free if place >= wanted), free[-1])


# --- As HTML --------------------------------------------------------------------------------------

_WIDTH, _LEFT, _RIGHT = 900, 90, 880
_TOP, _ROW, _BAR = 24, 44, 24
_ANSWERED, _SILENT, _RULE, _TEXT = "#2e7d32", "#f3c6c1", "#c9c9c9", "#222222"
_EVENT = "#0b62a4"
_TICKS, _STEPS = 12, (1, 2, 5, 10, 20, 60, 120, 600, 3600, 86400)
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; color: #222; max-width: 56em; margin: 2em auto; padding: 0 1em }}
svg {{ width: 100%; height: auto }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; padding: 0.2em 1.5em 0.2em 0; border-bottom: 1px solid #ccc }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
{svg}
<table>
<tr><th>pod<th>first ping lost<th>answered again<th>outage
{rows}
</table>
</html>
"""


def html(timeline: Timeline, title: str, summary: str) -> str:
    """A file that needs no other."""
    rows = "\n".join(
        f"<tr><td>{escape(pod)}<td>{begin:.2f} s<td>{end:.2f} s<td>{end - begin:.2f} s"
        for pod, begin, end in timeline.outages()
    )
    return _PAGE.format(title=escape(title), summary=escape(summary), svg=svg(timeline), rows=rows)


def svg(timeline: Timeline) -> str:
    """A bar a pod, green where pings were answered; each event a line with its name below."""
    bottom = _TOP + _ROW * len(timeline.tracks)
    events = timeline.events
    height = bottom + 40 + 22 * len(events)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
            ' font-family="sans-serif" font-size="14" role="img">',
            f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
            *_seconds(timeline, bottom),
            *(line for number in range(len(timeline.tracks)) for line in _bar(timeline, number)),
            *(_event_line(timeline, number, bottom) for number in range(len(events))),
            *(_event_name(timeline, number, bottom) for number in range(len(events))),
            "</svg>",
        ]
    )


def _x(timeline: Timeline, at: float) -> float:
    start, end = timeline.span
    return _LEFT + (min(max(at, start), end) - start) / (end - start) * (_RIGHT - _LEFT)


def _seconds(timeline: Timeline, bottom: float) -> list[str]:
    """The axis: whole seconds since the loss, at most every _TICKS-th part of it."""
    start, end = (at - timeline.loss for at in timeline.span)
    step = next(step for step in _STEPS if (end - start) / step <= _TICKS)
    lines = []
    for second in range(math.ceil(start / step) * step, int(end) + 1, step):
        x = _x(timeline, timeline.loss + second)
        lines.append(f'<path d="M{x:.1f} {_TOP - 6}V{bottom}" stroke="{_RULE}"/>')
        lines.append(_label(x, bottom + 18, f"{second} s", "middle", _TEXT))
    return lines


def _bar(timeline: Timeline, number: int) -> list[str]:
    track, y = timeline.tracks[number], _TOP + _ROW * number + (_ROW - _BAR) / 2
    silent = f'y="{y:g}" width="{_RIGHT - _LEFT}" height="{_BAR}" fill="{_SILENT}"'
    lines = [
        _label(_LEFT - 10, y + _BAR - 7, track.pod, "end", _TEXT),
        f'<rect x="{_LEFT}" {silent}/>',
    ]
    for begin, end in _answered_stretches(timeline, track):
        x, to = _x(timeline, begin), _x(timeline, end)
        shape = f'y="{y:g}" width="{to - x:.1f}" height="{_BAR}" fill="{_ANSWERED}"'
        lines.append(f'<rect x="{x:.1f}" {shape}/>')
    return lines


def _answered_stretches(timeline: Timeline, track: Track) -> list[tuple[float, float]]:
    """From the first to the last answer of each stretch without a lost ping."""
    half = timeline.interval / 2  # before and after each
    stretches: list[tuple[float, float]] = []
    for at in track.answered:
        if stretches and at - stretches[-1][1] < 2 * half:
            stretches[-1] = (stretches[-1][0], at + half)
        else:
            stretches.append((at - half, at + half))
    start, end = timeline.span
    return [(begin, to) for begin, to in stretches if to > start and begin < end]


def _event_line(timeline: Timeline, number: int, bottom: float) -> str:
    x, y, hook = _event_place(timeline, number, bottom)
    return f'<path d="M{x:.1f} {_TOP - 6}V{y - 5:g}h{hook}" fill="none" stroke="{_EVENT}"/>'


def _event_name(timeline: Timeline, number: int, bottom: float) -> str:
    x, y, hook = _event_place(timeline, number, bottom)
    event = timeline.events[number]
    name = f"{event.at - timeline.loss:.2f} s: {event.name}"
    return _label(x + 1.5 * hook, y, name, "start" if hook > 0 else "end", _EVENT)


def _event_place(timeline: Timeline, number: int, bottom: float) -> tuple[float, float, int]:
    """Where its line is and ends, and to which side its name is."""
    x = _x(timeline, timeline.events[number].at)
    return x, bottom + 46 + 22 * number, 8 if x < _WIDTH / 2 else -8


def _label(x: float, y: float, label: str, anchor: str, colour: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    # A line that crosses it does not make it unreadable.
    halo = 'paint-order="stroke" stroke="white" stroke-width="4"'
    return f"<text {place} {halo}>{escape(label)}</text>"
