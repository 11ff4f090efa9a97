"""The documents that the API server is sent. Pure."""

from __future__ import annotations

import time

from cni_repair.watch.kubernetes.condition import TYPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.watch.kubernetes.condition import Condition
    from cni_repair.watch.kubernetes.pace import Series

# A Node has no namespace: Events about it are in this one, as the kubelet's are.
EVENTS_NAMESPACE = "default"
_COMPONENT = "cni-repair"
_MOST_NAME = 200  # of a node's, in an Event's: 253 are taken


def status_patch(condition: Condition, node: dict[str, Any], now: float) -> dict[str, Any]:
    """The patch of a node's status that sets the condition, and leaves the others alone.

    `node` is what the server has: only a status that is another one has changed now.
    """
    stamp = _stamp(now)
    before = condition_in(node)
    is_same = before.get("status") == condition.status
    return {
        "status": {
            "conditions": [
                {
                    "type": TYPE,
                    "status": condition.status,
                    "reason": condition.reason,
                    "message": condition.message,
                    "lastHeartbeatTime": stamp,
                    "lastTransitionTime": (is_same and before.get("lastTransitionTime")) or stamp,
                }
            ]
        }
    }


def withdrawal_patch() -> dict[str, Any]:
    """The patch of a node's status that takes the condition away, and leaves the others alone."""
    return {"status": {"conditions": [{"type": TYPE, "$patch": "delete"}]}}


def condition_in(node: dict[str, Any]) -> dict[str, Any]:
    """The condition as the server has it, whatever it may send for a node; empty: it has none."""
    status = node.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    for one in conditions if isinstance(conditions, list) else ():
        if isinstance(one, dict) and one.get("type") == TYPE:
            return one
    return {}


def event_of(series: Series, node: str) -> dict[str, Any]:
    """An Event about a node."""
    occurrence = series.occurrence
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": series.name or _name_of(series, node),
            "namespace": EVENTS_NAMESPACE,
        },
        # By this uid `kubectl describe node` finds the kubelet's.
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "type": occurrence.kind,
        "firstTimestamp": _stamp(series.first),
        "source": {"component": _COMPONENT, "host": node},
        "reportingComponent": _COMPONENT,
        "reportingInstance": node,
        "reason": occurrence.reason,
        "message": occurrence.message,
        "count": series.count,
        "lastTimestamp": _stamp(series.last),
    }


def event_patch(event: dict[str, Any]) -> dict[str, Any]:
    """What changes of an Event that is there already."""
    return {name: event[name] for name in ("message", "count", "lastTimestamp")}


def _name_of(series: Series, node: str) -> str:
    """As unique as those of Kubernetes' own are: by its time."""
    return f"{node[:_MOST_NAME]}.{series.occurrence.reason.lower()}.{int(series.first * 1e6):x}"


def _stamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
