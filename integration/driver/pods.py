"""Outage against pods, as it is kept in a file, and its chart. Pure."""

from __future__ import annotations

import json
from typing import Any

from integration.bench.chart import chart
from integration.bench.figures import Figure, Run


def to_json(about: dict[str, str], sizes: list[dict[str, Any]]) -> str:
    """`sizes`: of each number of pods the outages in seconds, by the way of repair; a line each."""
    members = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in about.items()]
    members.append('"sizes": [\n' + ",\n".join(map(json.dumps, sizes)) + "\n]")
    return "{\n" + ",\n".join(members) + "\n}\n"


def drawn(document: str) -> str:
    """The chart of such a document."""
    about = json.loads(document)
    figures = [
        Figure("outage", size["pods"], way, [Run(1000 * seconds, 0.0, 0) for seconds in outages])
        for size in about["sizes"]
        for way, outages in size.items()
        if way != "pods"
    ]
    title = "From REPAIR's start to the last pod's announcement on the wire (median)"
    return chart(f"{title}, {about['kernel']}, emulated", figures)
