"""The pure parts of `integration/driver/run --plot`: what was measured, and its chart."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from integration.driver import outagechart
from integration.driver.outage import Outage, Run, from_json, to_json
from integration.driver.outagechart import chart

_SVG = "{http://www.w3.org/2000/svg}"
_MEASURED = Path(outagechart.__file__).with_name("outage.json")
_BACK, _LATE = 3.0, 2.5

_MARKS = {"rmmod": 0.0, "modprobe": 0.5, "repair called": 0.9, "carrier": 2.9, "repair ended": 3.4}


def a_run(pods: int = 4, *, repaired: bool = True, seconds: int = 10) -> Run:
    """Pings twice a second from -2 s on; those from _LATE to _BACK are answered at _BACK."""
    sent = [number / 2 - 2 for number in range(2 * seconds + 4)]

    def reply(at: float) -> float | None:
        if at < 0 or (repaired and at >= _BACK):
            return at + 0.01
        return _BACK + 0.01 if repaired and at >= _LATE else None

    replies = {f"pod-{number}": [reply(at) for at in sent] for number in range(pods)}
    return Run("repaired" if repaired else "control", dict(_MARKS), sent, replies)


def an_outage(*runs: Run) -> Outage:
    return Outage("6.1.0-1-amd64", "e1000e", "Emulated <&>", list(runs))


def texts(svg: ET.Element) -> list[str]:
    return [one.text or "" for one in svg.iter(f"{_SVG}text")]


def paths(svg: ET.Element, kind: str) -> list[str]:
    """What is drawn of a kind, but for the legend, which is the first of bars."""
    drawn = [one.get("d", "") for one in svg.iter(f"{_SVG}path") if one.get("class") == kind]
    return drawn[1:] if kind in ("reply", "late", "lost") else drawn


def test_committed_chart_shows_the_committed_figures_and_nothing_else() -> None:
    assert chart(from_json(_MEASURED.read_text("utf-8"))) == _MEASURED.with_suffix(
        ".svg"
    ).read_text("utf-8")


def test_committed_figures_are_of_a_control_and_a_repaired_run() -> None:
    control, repaired = from_json(_MEASURED.read_text("utf-8")).runs
    assert len(control.replies) >= 4
    assert all(control.outage(pod)[1] == math.inf for pod in control.replies)
    assert all(repaired.outage(pod)[1] < math.inf for pod in repaired.replies)
    assert {"rmmod", "modprobe", "carrier"} <= set(control.marks)
    assert {"repair called", "repair ended"} <= set(repaired.marks)


def test_json_and_back() -> None:
    outage = an_outage(a_run(repaired=False), a_run())
    assert from_json(to_json(outage)) == outage


def test_times_since() -> None:
    run = Run("", {"rmmod": 100.0}, [99.5, 100.50049], {"pod": [99.6, None]})
    assert run.since(100.0) == Run("", {"rmmod": 0.0}, [-0.5, 0.5], {"pod": [-0.4, None]})


@pytest.mark.parametrize(
    ("replies", "outage"),
    [
        ([0.1, 1.1, 2.1, 3.1], (0.1, 1.1)),
        ([0.1, None, None, 3.1], (0.1, 3.1)),
        ([0.1, 3.3, 3.2, 3.1], (0.1, 3.1)),  # late, and in any order
        ([None, None, 2.1, 3.1], (0.0, 2.1)),
        ([0.1, None, None, None], (0.1, math.inf)),
        ([None, None, None, None], (0.0, math.inf)),
    ],
)
def test_outage_is_the_longest_time_without_replies(
    replies: list[float | None], outage: tuple[float, float]
) -> None:
    assert Run("", {}, [0.0, 1.0, 2.0, 3.0], {"pod": replies}).outage("pod") == outage


def test_every_ping_is_a_bar_of_its_kind() -> None:
    svg = ET.fromstring(chart(an_outage(a_run(repaired=False), a_run())))
    # From -2 s until 2.16 s after "repair ended" at 3.4 s: 16 pings.
    counts = {
        kind: [path.count("M") for path in paths(svg, kind)] for kind in ("reply", "late", "lost")
    }
    assert counts == {
        "reply": [4] * 4 + [10] * 4,
        "late": [0] * 4 + [1] * 4,
        "lost": [12] * 4 + [5] * 4,
    }


def test_bar_is_where_its_ping_was_sent() -> None:
    (path,) = paths(ET.fromstring(chart(an_outage(a_run(pods=1)))), "late")
    svg = ET.fromstring(chart(an_outage(a_run(pods=1))))
    ticks = {
        one.text: float(one.get("x", ""))
        for one in svg.iter(f"{_SVG}text")
        if re.fullmatch(r"-?\d+", one.text or "")
    }
    assert float(path[1:].split()[0]) == pytest.approx((ticks["2"] + ticks["3"]) / 2, abs=0.1)


def test_words() -> None:
    said = texts(ET.fromstring(chart(an_outage(a_run(repaired=False), a_run()))))
    assert said.count("pod 4") == 2
    assert said.count("3.5 s") == 4  # from the reply at -0.49 s to that at 3.01 s
    assert said.count("> 9 s") == 4  # nothing until the last ping was sent, at 9.5 s
    assert {"rmmod", "modprobe 0.5 s", "carrier 2.9 s", "repair ended 3.4 s"} <= set(said)
    assert "seconds since rmmod, by the guest's clock" in said
    assert any("6.1.0-1-amd64" in words and "e1000e" in words for words in said)
    assert "Emulated <&>." in said
    assert any("every 500 ms" in words for words in said)


def test_legend_is_of_what_there_is() -> None:
    with_late, without = (
        " ".join(texts(ET.fromstring(chart(an_outage(run)))))
        for run in (a_run(), a_run(repaired=False))
    )
    assert "with a late one" in with_late
    assert "with a late one" not in without
    assert "a ping with a reply" in without
    assert "without a reply" in without


@pytest.mark.parametrize("moment", [0.1, 1.0, 6.0, 40.0])
def test_labels_neither_touch_nor_are_crossed(moment: float) -> None:
    """However close the marks are, and however late."""
    marks = {f"mark number {n}": moment + n * 0.2 for n in range(5)} | {"rmmod": 0.0}
    run = replace(a_run(seconds=60), marks=marks)
    svg = ET.fromstring(chart(an_outage(run)))
    lines = [
        tuple(map(float, re.findall(r"[\d.]+", path)))[:2] for path in paths(svg, "mark")
    ]  # x, top
    boxes = []
    for one in svg.iter(f"{_SVG}text"):
        if re.match(r"mark number|rmmod", one.text or ""):
            assert one.get("text-anchor") == "start"
            left = float(one.get("x", ""))
            boxes.append((left, left + len(one.text or "") * 6.5, float(one.get("y", ""))))
    assert len(boxes) == len(lines) == 6
    for (left, right, y), (other_left, other_right, other_y) in itertools.combinations(boxes, 2):
        assert y != other_y or right < other_left or other_right < left
    for x, top in lines:
        assert not [box for box in boxes if box[0] < x < box[1] and box[2] > top]
    assert all(right <= 700 for _, right, _ in boxes)


def test_whatever_is_drawn_has_a_colour_on_light_and_on_dark_paper() -> None:
    drawn = chart(an_outage(a_run()))
    light, dark = re.findall(
        r"<style>(.*)@media \(prefers-color-scheme:dark\){(.*)}</style>", drawn
    )[0]
    used = {f".{one}" for one in re.findall(r'class="(\w+)"', drawn)} | {"rect", "text"}
    for rules in (light, dark):
        assert used == set(re.findall(r"([.\w]+){(?:fill|stroke):", rules))


@pytest.mark.parametrize("seconds", [10, 30, 100])
def test_nothing_leaves_the_picture(seconds: int) -> None:
    late = {**_MARKS, "repair ended": float(seconds - 3)}
    svg = ET.fromstring(chart(an_outage(replace(a_run(seconds=seconds), marks=late))))
    width, height = map(int, svg.get("viewBox", "").split()[2:])
    assert width == 700
    ticks = [words for words in texts(svg) if re.fullmatch(r"-?\d+", words)]
    assert 3 <= len(ticks) <= 16
    for one in svg.iter(f"{_SVG}text"):
        assert 0 <= float(one.get("x", "")) <= width
        assert 0 <= float(one.get("y", "")) <= height
    for path in (one.get("d", "") for one in svg.iter(f"{_SVG}path")):
        assert all(0 <= float(x) <= width for x in re.findall(r"M([\d.-]+)", path))
