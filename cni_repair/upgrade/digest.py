"""A plan's digest: the same for all that mean the same, however they are written. Pure."""

from __future__ import annotations

import hashlib
import json

from cni_repair.base.frozen import asdict
from cni_repair.upgrade.planfile import VERSION, PlanError, plan_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.upgrade.planfile import Plan

_APART = ("command", "document")  # the one is put in as it is, the other never
_BARE = {"version": VERSION, "driver": {"command": ["true"]}}


def digest_of(plan: Plan) -> str:
    """Comments, the order of keys and of names, 5m for 300s change nothing.

    What has its default does not count, whether it is written or not: a plan keeps its digest when
    a later version knows more keys, and a fleet does not replace its drivers again.
    """
    meant = _beyond(_plain(plan), _plain(plan_of(_BARE)))
    meant["driver"] = {**meant.get("driver", {}), "command": plan.driver.command}
    text = json.dumps(meant, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def digest_in(document: Any) -> str | None:
    """That of the plan in a journal; None where there is none, or none that this version reads."""
    if document is None:
        return None
    try:
        return digest_of(plan_of(document))
    except PlanError:
        return None


def _plain(value: Any) -> Any:
    """A plan as plain mappings, without its command."""
    if hasattr(type(value), "__annotations__"):
        fields = asdict(value).items()
        return {name: _plain(inner) for name, inner in fields if name not in _APART}
    return sorted(value) if isinstance(value, tuple) else value


def _beyond(meant: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """What differs from the defaults."""
    found = {}
    for name, value in meant.items():
        usual = default[name]
        if isinstance(value, dict) and isinstance(usual, dict):
            value, usual = _beyond(value, usual), {}
        if value != usual:
            found[name] = value
    return found
