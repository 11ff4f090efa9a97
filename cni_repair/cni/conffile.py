"""Files with network configurations: of a single plugin, or a list of plugins."""

from __future__ import annotations

from cni_repair.base.errors import CONFIG, IO, CniError
from cni_repair.base.names import OWN_TYPE
from cni_repair.base.strictjson import load_object
from cni_repair.cni.netconf import NetConf, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def read_conf(path: str) -> NetConf:
    """The configuration of the cni-repair plugin in a .conf or .conflist file."""
    _, document = load_file(path)
    mine = [plugin for _, plugin in plugins_in(document) if plugin.get("type") == OWN_TYPE]
    if len(mine) != 1:
        raise CniError(CONFIG, f"{path} names the plugin {OWN_TYPE} {len(mine)} times, not once")
    return check(mine[0])


def load_file(path: str) -> tuple[bytes, dict[str, Any]]:
    """A file's bytes, and the JSON object in it. Raises CniError, which names the file."""
    try:
        with open(path, "rb") as file:
            raw = file.read((4 << 20) + 1)
    except OSError as error:
        raise CniError(IO, f"cannot read {path}", error.strerror or str(error)) from error
    return raw, load_object(raw, path)


def plugins_in(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(JSON path, configuration) of each plugin, as the runtime hands it over: with the list's own
    name and cniVersion (SPEC, "Section 1: Network configuration format")."""
    plugins = document.get("plugins")
    if plugins is None:
        return [("$", document)]
    if not isinstance(plugins, list):
        raise CniError(CONFIG, "$.plugins: expected a list")
    shared: dict[str, Any] = {
        key: document[key] for key in ("cniVersion", "name") if key in document
    }
    return [
        (f"$.plugins[{index}]", {**plugin, **shared})
        for index, plugin in enumerate(plugins)
        if isinstance(plugin, dict)
    ]
