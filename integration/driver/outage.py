"""What was measured of an outage, as it is kept in a file. Pure."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from dataclasses import asdict, dataclass

_DECIMALS = 3


@dataclass(frozen=True)
class Run:
    """One reload of the driver; all times in seconds of the guest's clock."""

    title: str
    marks: dict[str, float]  # when what happened
    sent: list[float]  # the pings, all pods' at once
    replies: dict[str, list[float | None]]  # by pod, for each ping: None where none came

    def since(self, zero: float) -> Run:
        """The same, with times that begin at `zero`."""

        def shift(at: float) -> float:
            return round(at - zero, _DECIMALS)

        return Run(
            self.title,
            {name: shift(at) for name, at in self.marks.items()},
            [shift(at) for at in self.sent],
            {
                pod: [None if at is None else shift(at) for at in replies]
                for pod, replies in self.replies.items()
            },
        )

    def outage(self, pod: str) -> tuple[float, float]:
        """The longest time that a pod was without replies: its begin, and its end, maybe never."""
        came = [self.sent[0], *sorted(at for at in self.replies[pod] if at is not None)]
        *gaps, last = itertools.pairwise([*came, self.sent[-1]])
        begin, end = max([*gaps, last], key=lambda gap: gap[1] - gap[0])
        return begin, math.inf if (begin, end) == last else end


@dataclass(frozen=True)
class Outage:
    """Runs on one machine, and which one that was."""

    kernel: str
    driver: str
    machine: str
    runs: list[Run]

    @property
    def interval(self) -> float:
        """Seconds from one ping to the next: the median."""
        pauses = (itertools.pairwise(run.sent) for run in self.runs)
        return statistics.median(b - a for a, b in itertools.chain(*pauses))


def to_json(outage: Outage) -> str:
    """With one run a line: the lists of numbers are long."""
    about = asdict(outage)
    runs = about.pop("runs")
    members = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in about.items()]
    members.append('"runs": [\n' + ",\n".join(map(json.dumps, runs)) + "\n]")
    return "{\n" + ",\n".join(members) + "\n}\n"


def from_json(text: str) -> Outage:
    document = json.loads(text)
    return Outage(**{**document, "runs": [Run(**run) for run in document["runs"]]})
