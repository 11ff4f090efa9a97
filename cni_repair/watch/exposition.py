"""What Prometheus is told of a node: the daemon's status document, and counts of its repairs.

Names, units and labels are by Prometheus' rules. No metric has a label for a pod: each pod that
ever lived would be a time series for ever. All that a label may say has a bound.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from cni_repair.node.report import STATES

Document: TypeAlias = Mapping[str, Any]

HEALED, FAILED, REFUSED = RESULTS = ("healed", "failed", "refused")
TRIGGERS = ("uplink", "start", "drift")
# Seconds: an armed pod is back 5 ms after its master, an uplink that nobody plugs in takes minutes.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
# Where a node has more, the rest is told in one sum, under the name OTHERS. (No network and no link
# can have that name.)
MOST_NAMES = 100
OTHERS = "(others)"
_LONGEST_NAME = 128

_NETWORK_STATE = ("network", "state")
_MASTER = ("master",)


class Gauge(NamedTuple):
    """A metric without labels, and where it stands in the status document."""

    name: str
    documentation: str
    path: tuple[str, ...]


# By the label `uplink`, where they stand in the status document.
_DAMAGED = {"up": ("damaged", "uplinkUp"), "down": ("damaged", "uplinkDown")}
GAUGES = (
    Gauge(
        "cni_repair_armed_attachments",
        "Attachments that are ready to be made the moment their master is back.",
        ("armed",),
    ),
    Gauge(
        "cni_repair_refused_attachments",
        "Attachments whose repair was refused; not tried again until something about them changes.",
        ("refused",),
    ),
    Gauge(
        "cni_repair_unmanaged_interfaces",
        "Interfaces of pods that have no record: once lost, no repair brings them back.",
        ("unmanaged",),
    ),
    Gauge(
        "cni_repair_interfaces",
        "Interfaces of pods that would be lost with the node's uplinks.",
        ("coverage", "interfaces"),
    ),
    Gauge(
        "cni_repair_restorable_interfaces",
        "Those of cni_repair_interfaces that a repair could bring back.",
        ("coverage", "restorable"),
    ),
    Gauge(
        "cni_repair_last_look_timestamp_seconds",
        "When all attachments had been compared with their records the last time.",
        ("lastLook",),
    ),
    Gauge(
        "cni_repair_kubelet_held",
        "1 while the kubelet is held down, so that it rebuilds no pod; else 0.",
        ("kubelet", "held"),
    ),
)


def number_at(document: object, path: Iterable[str]) -> float | None:
    """A number of the document; of a list, how many it has; None where there is none."""
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    if isinstance(document, (list, tuple)):
        return float(len(document))
    return float(document) if isinstance(document, (int, float)) else None


def as_label(name: object) -> str:
    """A name from elsewhere, as a label may say it.

    Prometheus takes any UTF-8, but its parser stops at a NUL, and JSON can carry what UTF-8 cannot:
    one such name would take all of the node's metrics away.
    """
    text = str(name)[:_LONGEST_NAME]
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


class Names:
    """Which names have series of their own, where there are too many: the first that came, so that
    no series comes and goes."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._own: dict[str, None] = {}  # in their order

    def shown(self, names: Iterable[str]) -> Callable[[str], str]:
        """Under which name each of those that are there now is shown."""
        there = dict.fromkeys(names)
        self._own = {name: None for name in self._own if name in there}
        for name in there:
            if len(self._own) >= self._most:
                break
            self._own[name] = None
        own = frozenset(self._own)
        return lambda name: name if name in own else OTHERS


class Master(NamedTuple):
    """A link of the node's below pods."""

    up: bool  # there, up, and with carrier
    attachments: float

    def __add__(self, other: object) -> Master:
        if not isinstance(other, Master):
            return NotImplemented
        return Master(self.up and other.up, self.attachments + other.attachments)


class Snapshot(NamedTuple):
    """What is told of one status document."""

    attachments: dict[tuple[str, str], float]  # by network and state
    masters: dict[str, Master]
    damaged: dict[str, float]  # by the state of what they stand on
    gauges: dict[str, float]
    paused: bool


class Exposition(Collector):
    """The metrics of one daemon, as text. Its methods may be called by any thread."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._networks, self._masters = Names(), Names()
        self._snapshot: Snapshot | None = None
        self._lock = threading.Lock()
        # Every combination from the start: of a series that begins with 1, rate() sees nothing.
        self._repairs = {(result, trigger): 0 for result in RESULTS for trigger in TRIGGERS}
        self._outages = [0] * (len(BUCKETS) + 1)
        self._outage_seconds = 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def observe(self, document: Document) -> None:
        """Take over what the daemon sees now."""
        snapshot = Snapshot(
            attachments=self._attachments_in(document),
            masters=self._masters_in(document),
            damaged={uplink: number_at(document, path) or 0.0 for uplink, path in _DAMAGED.items()},
            gauges={
                gauge.name: value
                for gauge in GAUGES
                if (value := number_at(document, gauge.path)) is not None
            },
            paused=document.get("mode") == "paused",
        )
        with self._lock:
            self._snapshot = snapshot

    def heal(self, result: str, trigger: str, outage_seconds: float | None) -> None:
        """Count one attachment's repair; of one that was healed, how long it had no network."""
        with self._lock:
            self._repairs[result, trigger] = self._repairs.get((result, trigger), 0) + 1
            if outage_seconds is not None:
                bucket = next(
                    (at for at, most in enumerate(BUCKETS) if outage_seconds <= most), len(BUCKETS)
                )
                self._outages[bucket] += 1
                self._outage_seconds += outage_seconds

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            snapshot, repairs = self._snapshot, dict(self._repairs)
            outages, seconds = list(self._outages), self._outage_seconds
        yield _build_info(self._version)
        yield _repairs(repairs)
        yield _outages(outages, seconds)
        if snapshot is not None:
            yield from _families(snapshot)

    def _attachments_in(self, document: Document) -> dict[tuple[str, str], float]:
        networks = _table(document, "byNetwork")
        shown = self._networks.shown(networks)
        counts: dict[tuple[str, str], float] = {}
        for network, states in networks.items():
            name = as_label(shown(network))
            for state in STATES:  # those with 0, too: an alert has to see that it is over
                count = number_at(states, (state,)) or 0.0
                counts[name, state] = counts.get((name, state), 0.0) + count
        return counts

    def _masters_in(self, document: Document) -> dict[str, Master]:
        listed = document.get("masters")
        masters = [one for one in listed if "name" in one] if isinstance(listed, list) else []
        shown = self._masters.shown(str(one["name"]) for one in masters)
        found: dict[str, Master] = {}
        for one in masters:
            name = as_label(shown(str(one["name"])))
            attachments = number_at(one, ("attachments",)) or 0.0
            master = Master(bool(one.get("up")) and bool(one.get("carrier")), attachments)
            found[name] = found[name] + master if name in found else master
        return found


def _table(document: Document, key: str) -> Mapping[str, Any]:
    table = document.get(key)
    return table if isinstance(table, Mapping) else {}


def _build_info(version: str) -> Metric:
    family = GaugeMetricFamily(
        "cni_repair_build_info", "Always 1; the label says which version runs.", labels=["version"]
    )
    family.add_metric([version], 1)
    return family


def _repairs(repairs: Mapping[tuple[str, str], int]) -> Metric:
    family = CounterMetricFamily(
        "cni_repair_repairs_total",
        "Repairs of attachments by the daemon, since it started.",
        labels=["result", "trigger"],
    )
    for labels, count in repairs.items():
        family.add_metric(labels, count)
    return family


def _outages(counts: list[int], seconds: float) -> Metric:
    family = HistogramMetricFamily(
        "cni_repair_outage_seconds",
        "How long healed attachments had been without their interface.",
    )
    buckets, sum_so_far = [], 0
    for most, count in zip((*map(str, map(float, BUCKETS)), "+Inf"), counts, strict=True):
        sum_so_far += count
        buckets.append((most, sum_so_far))
    family.add_metric([], buckets, seconds)
    return family


def _families(snapshot: Snapshot) -> Iterator[Metric]:
    attachments = GaugeMetricFamily(
        "cni_repair_attachments",
        "Attachments that have a record, by the network and the state in which they are.",
        labels=_NETWORK_STATE,
    )
    for labels, count in snapshot.attachments.items():
        attachments.add_metric(labels, count)
    damaged = GaugeMetricFamily(
        "cni_repair_damaged_attachments",
        "Attachments whose pods lack their network, or a part of it, by whether all that they stand"
        " on is up.",
        labels=["uplink"],
    )
    for uplink, count in snapshot.damaged.items():
        damaged.add_metric([uplink], count)
    up = GaugeMetricFamily(
        "cni_repair_master_up",
        "1 where the link below pods is there, up and has carrier; else 0.",
        labels=_MASTER,
    )
    over = GaugeMetricFamily(
        "cni_repair_master_attachments",
        "Attachments over this link, at once or by way of others, by their records.",
        labels=_MASTER,
    )
    for name, master in snapshot.masters.items():
        up.add_metric([name], master.up)
        over.add_metric([name], master.attachments)
    paused = "1 while somebody has paused the healing; else 0."
    yield attachments
    yield damaged
    yield up
    yield over
    yield GaugeMetricFamily("cni_repair_paused", paused, snapshot.paused)
    for name, documentation, _ in GAUGES:
        if name in snapshot.gauges:
            yield GaugeMetricFamily(name, documentation, snapshot.gauges[name])
