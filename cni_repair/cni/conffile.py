"""Files with network configurations: of a single plugin, or a list of plugins."""

from __future__ import annotations

from cni_repair.base.errors import CONFIG, IO, CniError
from cni_repair.base.gotypes import field_of
from cni_repair.base.names import OWN_TYPE
from cni_repair.base.strictjson import MAX_BYTES, load_configuration
from cni_repair.cni.netconf import VERSIONS, NetConf, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def read_conf(path: str) -> NetConf:
    """The configuration of the cni-repair plugin in a .conf or .conflist file."""
    try:
        document = load_configuration(read_file(path), path)
    except OSError as error:
        raise CniError(IO, f"cannot read {path}", error.strerror or str(error)) from error
    mine = [plugin for _, plugin in plugins_in(document) if field_of(plugin, "type") == OWN_TYPE]
    if not mine:
        raise CniError(CONFIG, f"{path} has no plugin of type {OWN_TYPE}")
    if mine[1:]:
        raise CniError(CONFIG, f"{path} has {len(mine)} plugins of type {OWN_TYPE}, not one")
    try:
        return check(mine[0])
    except CniError as error:
        raise CniError(error.code, f"{path}: {error.msg}", error.details) from error


def read_file(path: str) -> bytes:
    """A file's bytes: one more than are read of any, where there are more. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(MAX_BYTES + 1)


def plugins_in(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(JSON path, configuration) of each plugin, as the runtime hands it over: with the list's own
    name and cniVersion (SPEC, "Section 1: Network configuration format"); without one, with ""."""
    plugins = document.get("plugins")
    if plugins is None:
        return [("$", document)]
    if not isinstance(plugins, list):
        raise CniError(CONFIG, "$.plugins: expected a list")
    shared: dict[str, Any] = {"cniVersion": _version_of_list(document)}
    if "name" in document:
        shared["name"] = document["name"]
    return [
        (f"$.plugins[{index}]", {**plugin, **shared})
        for index, plugin in enumerate(plugins)
        if isinstance(plugin, dict)
    ]


def _version_of_list(document: dict[str, Any]) -> Any:
    """The list's cniVersion; where there are `cniVersions`, too (SPEC 1.1.0), the newest of all."""
    given = document.get("cniVersion") or ""
    several = document.get("cniVersions")
    offered = [given, *several] if isinstance(several, list) else []
    return next((known for known in reversed(VERSIONS) if known in offered), given)
