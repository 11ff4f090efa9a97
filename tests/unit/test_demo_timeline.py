"""The demo's timeline: outages from answered pings, the picture as text and as SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from cni_repair.demo import timeline as timelines
from cni_repair.demo.timeline import Event, Timeline, Track

INTERVAL = 0.1
EVENTS = (Event("lost", 1000.0), Event("back", 1001.0), Event("repair <all>", 1001.1))


def answered(*stretches: tuple[float, float]) -> tuple[float, ...]:
    """Pings every INTERVAL from the first to the last of each stretch, after second 1000."""
    return tuple(
        1000 + begin + INTERVAL * number
        for begin, end in stretches
        for number in range(round((end - begin) / INTERVAL) + 1)
    )


ONE = Track("web-1", answered((-2, -0.1), (1.5, 3)))
TWO = Track("web-2", answered((-2, 0.1), (2.0, 3)))
TIMELINE = Timeline(EVENTS, (ONE, TWO), INTERVAL)


def test_outage_is_from_the_first_lost_ping_to_the_first_answered_one() -> None:
    found = [(pod, round(begin, 6), round(end, 6)) for pod, begin, end in TIMELINE.outages()]
    assert found == [("web-1", 0.0, 1.5), ("web-2", 0.2, 2.0)]


@pytest.mark.parametrize(
    ("pings", "outage"),
    [
        (answered((-2, -1), (-0.5, 0), (1, 2)), (0.1, 1.0)),  # what was lost before is another's
        (answered((-2, 0), (0.3, 0.5), (1.5, 2)), (0.6, 1.5)),  # the longest of several
        (answered((-2, -1)), (0.0, 0.0)),
    ],
)
def test_which_silence_is_the_outage(pings: tuple[float, ...], outage: tuple[float, float]) -> None:
    begin, end = Track("web-1", pings).outage(1000.0, INTERVAL)
    assert (round(begin - 1000, 6), round(end - 1000, 6)) == outage


@pytest.mark.parametrize("columns", [30, 36, 75])
def test_text_has_a_line_a_pod_and_a_letter_an_event(columns: int) -> None:
    first, second, letters, *legend = timelines.text(TIMELINE, columns)
    assert max(map(len, (first, second, letters))) <= columns
    for line, pod in ((first, "web-1"), (second, "web-2")):
        name, cells = line.split()
        assert name == pod
        assert cells.strip("#") == "." * len(cells.strip("#")) != ""
        assert cells[0] == cells[-1] == "#"
    assert letters.split() in (["a", "b", "c"], ["a", "bc"])
    assert legend == ["a   0.00 s  lost", "b   1.00 s  back", "c   1.10 s  repair <all>"]


def test_text_says_where_events_are() -> None:
    line, _, letters, *_ = timelines.text(TIMELINE, 75)
    assert line[letters.index("a") - 1 : letters.index("a") + 1] == "#."


def test_svg_has_a_bar_a_pod_and_a_line_an_event() -> None:
    picture = ElementTree.fromstring(timelines.svg(TIMELINE))
    texts = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert [text for text in texts if text in ("web-1", "web-2")] == ["web-1", "web-2"]
    assert texts[-3:] == ["0.00 s: lost", "1.00 s: back", "1.10 s: repair <all>"]
    bars = [element for element in picture.iter() if element.get("fill") == "#2e7d32"]
    assert len(bars) == 4  # each pod has answers before and after
    for element in picture.iter():
        if width := element.get("width"):
            assert 0 < float(width) <= 900


@pytest.mark.parametrize(
    ("seconds", "ticks"), [(3, range(-1, 5)), (40, range(0, 41, 5)), (4000, range(0, 4001, 600))]
)
def test_axis_has_room_for_its_numbers(seconds: int, ticks: range) -> None:
    track = Track("web-1", answered((-2, 0), (seconds, seconds + 2)))
    events = (Event("lost", 1000.0), Event("back", 1000.0 + seconds))
    picture = timelines.svg(Timeline(events, (track,), INTERVAL))
    assert re.findall(r">(-?\d+) s</text>", picture) == list(map(str, ticks))


def test_page_names_each_pods_outage() -> None:
    page = timelines.html(TIMELINE, "a <title>", "and & why")
    assert "<h1>a &lt;title&gt;</h1>" in page
    assert "<td>web-1<td>0.00 s<td>1.50 s<td>1.50 s" in page
    assert "<td>web-2<td>0.20 s<td>2.00 s<td>1.80 s" in page
