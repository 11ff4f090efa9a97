"""Results in the CNI version that a caller asks for."""

from __future__ import annotations

from cni_repair.base.errors import BAD_CHECKPOINT, CniError
from cni_repair.base.gotypes import RESULT, misfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Up to here a Result has an address of each family at most, as `ip4` and `ip6`.
BY_FAMILY = ("0.1.0", "0.2.0")
_FAMILIES = {"4": "ip4", "6": "ip6"}
# What 1.1.0 added to 1.0.0 (SPEC, "Section 5: Result Types").
_NEW_IN_1_1 = {
    "interfaces": ("mtu", "socketPath", "pciID"),
    "routes": ("mtu", "advmss", "priority", "table", "scope"),
}


def convert(result: dict[str, Any], version: str) -> dict[str, Any]:
    """A Result of any version in the form of `version`.

    Before 1.0.0 each of `ips` names its family in `version`; since then it must not. The
    predecessor's Results have no cniVersion, and the form of 0.3.0. Raises CniError
    (BAD_CHECKPOINT).
    """
    why = misfit(result, RESULT)
    if why:
        raise CniError(BAD_CHECKPOINT, "the recorded Result is none", f"$.result{why}")
    # Go writes an empty list as null.
    converted = {key: value for key, value in result.items() if value is not None}
    if is_by_family(converted):
        converted = _with_lists(converted)
    converted["cniVersion"] = version
    if "ips" in converted:
        old = version.startswith("0.")
        converted["ips"] = [_address(entry, old) for entry in converted["ips"]]
    if version != "1.1.0":
        for key, names in _NEW_IN_1_1.items():
            if key in converted:
                converted[key] = [_without(entry, names) for entry in converted[key]]
    return _by_family(converted) if version in BY_FAMILY else converted


def is_by_family(result: dict[str, Any]) -> bool:
    """Whether it has the form of CNI 0.2.0 and before."""
    return any(key in result for key in _FAMILIES.values())


def _with_lists(result: dict[str, Any]) -> dict[str, Any]:
    """From the form by families, as libcni does it: nobody says which interface it is."""
    ips: list[dict[str, Any]] = []
    routes: list[dict[str, Any]] = []
    for version, key in _FAMILIES.items():
        family = result.get(key)
        if family:
            gateway = {"gateway": family["gateway"]} if family.get("gateway") else {}
            ips.append({"version": version, "address": family.get("ip"), **gateway})
            routes += family.get("routes") or []
    others = _without(result, tuple(_FAMILIES.values()))
    return {**others, "ips": ips, **({"routes": routes} if routes else {})}


def _by_family(result: dict[str, Any]) -> dict[str, Any]:
    """Into the form by families: the first address of each, and its routes.

    (libcni fails where there is a second address; a REPAIR that succeeded must not.)
    """
    converted = {"cniVersion": result["cniVersion"]}
    for version, key in _FAMILIES.items():
        first = next(
            (entry for entry in result.get("ips", ()) if entry["version"] == version), None
        )
        if first:
            gateway = {"gateway": first["gateway"]} if first.get("gateway") else {}
            routes = [
                route
                for route in result.get("routes", ())
                if (":" in str(route.get("dst"))) == (version == "6")
            ]
            with_routes = {"routes": routes} if routes else {}
            converted[key] = {"ip": first.get("address"), **gateway, **with_routes}
    return {**converted, "dns": result.get("dns") or {}}


def _address(entry: dict[str, Any], old: bool) -> dict[str, Any]:
    plain = _without(entry, ("version",))
    if not old:
        return plain
    return {"version": "6" if ":" in str(entry.get("address")) else "4", **plain}


def _without(entry: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in names}
