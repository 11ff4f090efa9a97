"""Results in the CNI version that a caller asks for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What 1.1.0 added to 1.0.0 (SPEC, "Section 5: Result Types").
_NEW_IN_1_1 = {
    "interfaces": ("mtu", "socketPath", "pciID"),
    "routes": ("mtu", "advmss", "priority", "table", "scope"),
}


def convert(result: dict[str, Any], version: str) -> dict[str, Any]:
    """A Result of any version from 0.3.0 on, in the form of `version`.

    Before 1.0.0 each of `ips` names its family in `version`; since then it must not. The
    predecessor's Results have no cniVersion, and the older form.
    """
    # Go writes an empty list as null.
    converted = {key: value for key, value in result.items() if value is not None}
    converted["cniVersion"] = version
    if "ips" in converted:
        old = version.startswith("0.")
        converted["ips"] = [_address(entry, old) for entry in converted["ips"]]
    if version != "1.1.0":
        for key, names in _NEW_IN_1_1.items():
            if key in converted:
                converted[key] = [_without(entry, names) for entry in converted[key]]
    return converted


def _address(entry: dict[str, Any], old: bool) -> dict[str, Any]:
    plain = _without(entry, ("version",))
    if not old:
        return plain
    return {"version": "6" if ":" in str(entry.get("address")) else "4", **plain}


def _without(entry: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in names}
