"""The benchmark's pure parts: statistics, tables, verdicts, and the chart."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from integration.bench import bench, names
from integration.bench.aims import aims_table, comparison_table, noise_table, verdicts
from integration.bench.chart import chart
from integration.bench.figures import Figure, Figures, Run, Spread, spread_of, table

_RUN = Path(bench.__file__).with_name("run")
_SVG = "{http://www.w3.org/2000/svg}"


def measured(*found: tuple[str, int, str, float]) -> Figures:
    """Figures of one run each: what, pods, by, milliseconds."""
    figures = Figures()
    for what, pods, peer, milliseconds in found:
        figures.add(what, pods, peer, Run(milliseconds, 5.0, 10_000))
    return figures


def verdict_of(figures: Figures, beginning: str) -> tuple[float | None, str]:
    """Of the first aim whose words begin so: that of the CNI verb."""
    found = next(one for one in verdicts(figures) if one.what.startswith(beginning))
    return found.value, found.word


def test_spread() -> None:
    assert spread_of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(3.0, 2.0, 4.0, 1.0, 5.0)
    assert spread_of([1.0, 2.0]) == Spread(1.5, 1.25, 1.75, 1.0, 2.0)
    assert spread_of([7.0]) == Spread(7.0, 7.0, 7.0, 7.0, 7.0)
    assert spread_of([5.0, 1.0, 3.0, 2.0, 4.0]).noise == pytest.approx(2 / 3)


def test_memory_is_that_of_the_worst_run() -> None:
    assert Figure("x", 1, "y", [Run(1.0, 1.0, 1000), Run(1.0, 1.0, 2000)]).megabytes == 2.048


def test_table_keeps_together_what_is_the_same() -> None:
    figures = measured(("a", 1, "x", 1.234), ("b", 1, "x", 12.34), ("a", 10, "x", 1234.5))
    assert table(figures.all()) == [
        "WHAT  PODS  BY  RUNS  MEDIAN  LOWER  UPPER  LEAST  MOST  A POD   CPU    MB",
        "a        1  x      1    1.23   1.23   1.23   1.23  1.23   1.23  5.00  10.2",
        "a       10  x      1    1234   1234   1234   1234  1234    123  5.00  10.2",
        "b        1  x      1    12.3   12.3   12.3   12.3  12.3   12.3  5.00  10.2",
    ]


def test_cost_of_add_is_what_it_takes_longer_than_the_bare_plugin() -> None:
    figures = measured((names.ADD, 1, names.BARE, 10.0), (names.ADD, 1, names.OURS, 21.0))
    assert verdict_of(figures, "ADD") == (11.0, "met")
    figures.add(names.ADD, 1, names.OURS, Run(22.0, 1.0, 1))
    assert verdict_of(figures, "ADD") == (11.5, "falls short")


@pytest.mark.parametrize(
    ("aim", "ours", "pods", "peer", "theirs", "value", "word"),
    [
        ("REPAIR of 200 against ip", {200: 100.0}, 200, names.BATCH, 500.0, 5.0, "met"),
        ("REPAIR of 200 against ip", {200: 125.0}, 200, names.BATCH, 500.0, 4.0, "falls short"),
        ("REPAIR of 200 against nine", {200: 100.0}, 50, names.SHELL, 1250.0, 50.0, "met"),
        ("REPAIR of 200 against the C", {200: 80.0}, 200, names.FLOOR, 40.0, 2.0, "met"),
        ("REPAIR of 200 against the C", {200: 100.0}, 200, names.FLOOR, 40.0, 2.5, "falls short"),
        ("REPAIR of 2,000", {2000: 900.0}, 2000, names.FLOOR, 300.0, 3.0, "falls short"),
        ("cost a pod", {200: 100.0, 2000: 1100.0}, 1, names.FLOOR, 1.0, 1.1, "met"),
        ("cost a pod", {200: 100.0, 2000: 2000.0}, 1, names.FLOOR, 1.0, 2.0, "falls short"),
    ],
)
def test_ratio(
    aim: str, ours: dict[int, float], pods: int, peer: str, theirs: float, value: float, word: str
) -> None:
    own = [(names.REPAIR, count, names.VERB, time) for count, time in ours.items()]
    figures = measured(*own, (names.REPAIR, pods, peer, theirs))
    found, said = verdict_of(figures, aim)
    assert found == pytest.approx(value)
    assert said == word


def test_hostile_pod_is_judged_by_its_worst_run() -> None:
    what = f"repair, {names.HOSTILE}, "
    figures = measured((what + "a", 1, names.VERB, 100.0), (what + "b", 1, names.VERB, 1900.0))
    assert verdict_of(figures, what + "the worst run") == (1.9, "met")
    figures.add(what + "a", 1, names.VERB, Run(2100.0, 1.0, 1))
    assert verdict_of(figures, what + "the worst run") == (2.1, "falls short")


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {verdict.word for verdict in verdicts(Figures())} == {"not measured"}
    assert len(aims_table(Figures())) == 1 + len(verdicts(Figures()))


def test_noise_is_how_far_a_peer_is_from_itself() -> None:
    peer = names.FLOOR
    figures = measured(
        (names.REPAIR, 1, peer, 10.0),
        (names.REPAIR, 1, names.again(peer), 11.0),
        (names.REPAIR, 1, names.BATCH, 99.0),
    )
    _, row = noise_table(figures)
    assert row.split()[-4:] == ["10.0", "11.0", "10%", "±0%"]


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (10.0, 12.9, "no worse"),  # 3 ms are the larger allowance here …
        (10.0, 13.1, "worse"),
        (200.0, 209.0, "no worse"),  # … and 5 % here
        (200.0, 211.0, "worse"),
        (30.0, 20.0, "no worse"),
    ],
)
def test_each_figure_is_compared_with_the_version_before(
    before: float, now: float, verdict: str
) -> None:
    figures = measured(
        (names.REPAIR, 50, names.VERB, now),
        (names.REPAIR, 50, names.earlier(names.VERB), before),
        (names.REPAIR, 50, names.BATCH, 1.0),  # nothing to be compared with
    )
    _, row = comparison_table(figures)
    assert row.split()[:6] == ["repair,", "all", "lost", "50", "cni-repair,", "CNI"]
    assert row.endswith(verdict)
    assert f"{now - before:+.1f} ms" in row


def test_chart_has_a_line_a_peer_and_a_point_a_figure() -> None:
    found = [(count, peer) for peer in ("one", "two & more") for count in (1, 10, 100)]
    figures = measured(*((names.REPAIR, count, peer, 2.0 * count) for count, peer in found))
    root = ET.fromstring(chart("A <title>", figures.all()))
    lines, circles = root.findall(f"{_SVG}polyline"), root.findall(f"{_SVG}circle")
    assert len(lines) == 2
    assert len(circles) == 6
    texts = {text.text for text in root.iter(f"{_SVG}text")}
    assert {"A <title>", "one", "two & more", "1", "10", "100", "1 ms", "100 ms"} <= texts
    # Both axes logarithmic: what costs the same a pod is a straight line.
    points = [tuple(map(float, point.split(","))) for point in lines[0].attrib["points"].split()]
    (x1, y1), (x2, y2), (x3, y3) = points
    assert (x2 - x1, y2 - y1) == pytest.approx((x3 - x2, y3 - y2), abs=0.2)
    assert x1 < x2
    assert y1 > y2


def test_names_that_lie_on_each_other_are_moved_apart() -> None:
    figures = measured(*((names.REPAIR, count, peer, count) for count in (1, 9) for peer in "ab"))
    texts = list(ET.fromstring(chart("", figures.all())).iter(f"{_SVG}text"))
    one, two = (float(text.attrib["y"]) for text in texts if text.text in ("a", "b"))
    assert abs(one - two) >= 15


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "no part nonsense"),
        (["--json", "/nowhere/file"], "/nowhere/file: no directory that can be written to"),
    ],
)
def test_wrong_usage_is_said_at_once(arguments: list[str], complaint: str) -> None:
    done = subprocess.run([str(_RUN), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr
