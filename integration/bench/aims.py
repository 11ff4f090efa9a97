"""What cni-repair aims at, against what was measured. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from integration.bench import names
from integration.bench.figures import Figure, Figures, aligned

_FACES = (names.VERB, names.COMMAND)
_OVER_THE_PLUGIN = {names.ADD: 11, names.DEL: 14}
_FLOORS = {200: 2.2, 2000: 1.8}  # by pods: how many times the C program's time
_FLOORS_ARMED = {200: 1.4, 2000: 1.2}
_FIRED = 1.15  # times the C program's time
# By how much a figure may grow from one version to the next: by the larger of the two.
_WORSE_MS, _WORSE_PART = 3.0, 0.05


class NotMeasured(Exception):
    """A figure is missing: the part was not asked for, or a peer was left out."""


@dataclass(frozen=True)
class Verdict:
    """An aim, and the value that was measured; None where it was not."""

    what: str
    value: float | None
    aim: float
    unit: str
    at_least: bool = False

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        is_met = self.value >= self.aim if self.at_least else self.value <= self.aim
        return "met" if is_met else "falls short"

    def row(self) -> tuple[str, ...]:
        measured = "-" if self.value is None else f"{self.value:.2f} {self.unit}"
        sign = "≥" if self.at_least else "≤"
        return self.what, measured, f"{sign} {self.aim:g} {self.unit}", self.word

    def document(self) -> dict[str, object]:
        return {
            "what": self.what,
            "value": self.value,
            "at_least" if self.at_least else "at_most": self.aim,
            "unit": self.unit,
            "verdict": self.word,
        }


def verdicts(figures: Figures) -> list[Verdict]:
    """Each aim, in the order of the issue's table."""
    parts = (_of_plugin, _of_repair, _of_armed, _of_ipv6, _of_hostile)
    return [verdict for part in parts for verdict in part(figures)]


def aims_table(figures: Figures) -> list[str]:
    rows = [("AIM", "MEASURED", "AIMED AT", "VERDICT")]
    return aligned([*rows, *(verdict.row() for verdict in verdicts(figures))], (0, 3))


def _of_plugin(figures: Figures) -> Iterator[Verdict]:
    for verb, most in _OVER_THE_PLUGIN.items():

        def cost(verb: str = verb) -> float:
            return _median(figures, verb, 1, names.OURS) - _median(figures, verb, 1, names.BARE)

        yield _verdict(f"{verb}, cni-repair minus the bare plugin", cost, most, "ms")


def _of_repair(figures: Figures) -> Iterator[Verdict]:
    def repair(pods: int, peer: str) -> float:
        return _median(figures, names.REPAIR, pods, peer)

    for face in _FACES:

        def of(work: Callable[[str], float], face: str = face) -> Callable[[], float]:
            return lambda: work(face)

        about = f" ({face})"
        yield _verdict("REPAIR of 1 pod" + about, of(lambda f: repair(1, f)), 18, "ms")
        yield _verdict(
            "REPAIR of 200 against ip -batch" + about,
            of(lambda f: repair(200, names.BATCH) / repair(200, f)),
            5,
            "times faster",
            at_least=True,
        )
        yield _verdict(
            "REPAIR of 200 against nine commands a pod (50, times 4)" + about,
            of(lambda f: 4 * repair(50, names.SHELL) / repair(200, f)),
            50,
            "times faster",
            at_least=True,
        )
        for pods, most in _FLOORS.items():

            def floors(face: str, pods: int = pods) -> float:
                return repair(pods, face) / repair(pods, names.FLOOR)

            yield _verdict(
                f"REPAIR of {pods:,} against the C floor" + about, of(floors), most, "times"
            )
        yield _verdict(
            "cost a pod, REPAIR of 2,000 against 200" + about,
            of(lambda f: (repair(2000, f) / 2000) / (repair(200, f) / 200)),
            1.2,
            "times",
        )
        yield _verdict(
            "nothing lost, of 500 pods" + about,
            of(lambda f: _median(figures, names.NOTHING_LOST, 500, f) / 500),
            0.5,
            "ms a pod",
        )
        yield _verdict(
            "peak memory, REPAIR of 2,000" + about,
            of(lambda f: _figure(figures, names.REPAIR, 2000, f).megabytes),
            80,
            "MB",
        )


def _of_armed(figures: Figures) -> Iterator[Verdict]:
    def armed(pods: int, peer: str) -> float:
        return _median(figures, names.REPAIR_ARMED, pods, peer)

    for pods, most in _FLOORS_ARMED.items():
        for face in _FACES:

            def floors(pods: int = pods, face: str = face) -> float:
                return armed(pods, face) / armed(pods, names.FLOOR)

            what = f"REPAIR of {pods:,}, armed, against the C floor ({face})"
            yield _verdict(what, floors, most, "times")

        def fired(pods: int = pods) -> float:
            return _median(figures, names.FIRED, pods, names.OURS) / armed(pods, names.FLOOR)

        yield _verdict(f"fired, {pods:,} pods, against the C floor", fired, _FIRED, "times")
    yield _verdict(
        f"REPAIR of 200, armed, against ip -batch ({names.VERB})",
        lambda: _median(figures, names.REPAIR, 200, names.BATCH) / armed(200, names.VERB),
        8,
        "times faster",
        at_least=True,
    )


def _of_ipv6(figures: Figures) -> Iterator[Verdict]:
    def later() -> float:
        four, six = (
            _median(figures, f"{names.FIRST_REPLY}, {family}", 1, names.COMMAND)
            for family in ("IPv4", "IPv6")
        )
        return six - four

    yield _verdict("a repaired pod's first reply, IPv6 after IPv4", later, 50, "ms")


def _of_hostile(figures: Figures) -> Iterator[Verdict]:
    """The worst of all kinds of routes, and of all runs: it is a bound."""
    for verb, face in ((names.STATUS, names.COMMAND), *(("repair", face) for face in _FACES)):
        kind = f"{verb}, {names.HOSTILE}"
        found = [f for f in figures.all() if f.what.startswith(kind) and f.peer == face]
        about = f"{kind}, the worst run ({face})"
        seconds = [figure.spread.most / 1000 for figure in found]
        yield Verdict(about, max(seconds, default=None), 2, "s")
        yield Verdict(about, max((figure.megabytes for figure in found), default=None), 64, "MB")


def comparison_table(figures: Figures) -> list[str]:
    """Each figure of ours beside the same of the other checkout (`--against`)."""
    rows = [("COMPARED", "PODS", "BY", "BEFORE", "NOW", "DIFFERENCE", "VERDICT")]
    for now in figures.all():
        then = figures.find(now.what, now.pods, names.earlier(now.peer))
        if then is None:
            continue
        a, b = then.spread.median, now.spread.median
        verdict = "worse" if b - a > max(_WORSE_MS, a * _WORSE_PART) else "no worse"
        rows.append(
            (
                now.what,
                str(now.pods),
                now.peer,
                f"{a:.1f} ms",
                f"{b:.1f} ms",
                f"{b - a:+.1f} ms",
                verdict,
            )
        )
    return aligned(rows, (0, 2, 6))


def noise_table(figures: Figures) -> list[str]:
    """What differs between a peer and itself, measured as if it were two."""
    rows = [("NOISE OF", "PODS", "BY", "MEDIANS", "APART", "MIDDLE HALF")]
    for two in figures.all():
        one = figures.find(two.what, two.pods, names.first(two.peer))
        if one is None or one is two:
            continue
        a, b = one.spread, two.spread
        rows.append(
            (
                one.what,
                str(one.pods),
                one.peer,
                f"{a.median:.1f} {b.median:.1f}",
                f"{abs(a.median - b.median) / min(a.median, b.median):.0%}",
                f"±{max(a.noise, b.noise) / 2:.0%}",
            )
        )
    return aligned(rows, (0, 2))


def _verdict(
    what: str, value: Callable[[], float], aim: float, unit: str, at_least: bool = False
) -> Verdict:
    try:
        return Verdict(what, value(), aim, unit, at_least)
    except NotMeasured:
        return Verdict(what, None, aim, unit, at_least)


def _median(figures: Figures, what: str, pods: int, peer: str) -> float:
    return _figure(figures, what, pods, peer).spread.median


def _figure(figures: Figures, what: str, pods: int, peer: str) -> Figure:
    found = figures.find(what, pods, peer)
    if found is None:
        raise NotMeasured
    return found
