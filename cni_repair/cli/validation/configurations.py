"""Network configurations: of one plugin, of a list, of Multus' delegates; and where Kubernetes and
OpenShift objects carry them, as text."""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.gotypes import field_of
from cni_repair.base.names import OWN_TYPE
from cni_repair.base.strictjson import load_configuration
from cni_repair.cli.validation import keys
from cni_repair.cli.validation.findings import Finding, Part, error, note, warning
from cni_repair.cli.validation.plugins import check_plugin
from cni_repair.cni.conffile import plugins_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_repair.cli.validation.machine import Machine

CONFIGURATION = "network configuration"
NAD = "NetworkAttachmentDefinition"
_API = "k8s.cni.cncf.io/v1"
_NONE = f"no plugin of type {OWN_TYPE!r} in it"


def configuration(
    document: dict[str, Any], machine: Machine, number: int, ending: str = ""
) -> Part:
    """A document that is a configuration itself; `ending` is the file's."""
    checked = _check(document, "$", machine)
    findings = (*checked.findings, *(_ending(document, ending) if checked.is_ours else ()))
    name = document.get("name")
    return Part(
        number,
        CONFIGURATION,
        findings,
        name=name if isinstance(name, str) else "",
        is_titled=False,
        why_not_ours=checked.why_not_ours,
    )


def attachment_definition(
    document: dict[str, Any], machine: Machine, number: int, path: str = "$"
) -> Part:
    """Multus' object: its `spec.config` is a configuration, as text."""
    metadata = _object(document, "metadata")
    named = metadata.get("name")
    name = named if isinstance(named, str) else ""
    spec = document.get("spec")
    where = f"{path}.spec"
    if spec is not None and not isinstance(spec, dict):
        checked = _Checked((error(where, "is not an object", "write config below it"),))
    elif not spec or spec.get("config") in (None, ""):
        checked = _Checked(() if "config" in document else _on_the_node(where, name, spec or {}))
    else:
        checked = _check_text(spec["config"], f"{where}.config", machine, name)
    namespace = metadata.get("namespace")
    full = f"{namespace}/{name}" if isinstance(namespace, str) else name
    found = (*_of_the_object(document, path), *checked.findings)
    return Part(number, NAD, found, path, full, why_not_ours=checked.why_not_ours)


def _of_the_object(document: dict[str, Any], path: str) -> Iterator[Finding]:
    api = document.get("apiVersion")
    if api != _API:
        said = "there is none" if api is None else f"{api!r} has no kind {NAD}"
        yield error(f"{path}.apiVersion", said, f"write {_API}")
    if "config" in document:
        said = "not a key of the object itself: nobody reads it"
        yield error(f"{path}.config", said, "move it into spec")


def _on_the_node(path: str, name: str, spec: dict[str, Any]) -> tuple[Finding, ...]:
    misspelt = next((key for key in spec if key != "config" and keys.near(key, ("config",))), "")
    if misspelt:
        return (error(f"{path}.{misspelt}", "not a key of spec: nobody reads it", "write config"),)
    return (
        note(
            f"{path}.config",
            f"there is none: Multus reads the node's file that names the network {name!r}",
            "validate that file, in /etc/cni/net.d or in Multus' own directory",
        ),
    )


def operator_networks(
    document: dict[str, Any], machine: Machine, number: int, path: str = "$"
) -> Iterator[Part]:
    """OpenShift's Network: its operator makes a NetworkAttachmentDefinition of each entry."""
    networks = _object(document, "spec").get("additionalNetworks")
    for index, given in enumerate(networks if isinstance(networks, list) else ()):
        where = f"{path}.spec.additionalNetworks[{index}]"
        entry = given if isinstance(given, dict) else {}
        text, name = entry.get("rawCNIConfig"), str(entry.get("name") or "")
        if text:
            checked = _check_text(text, f"{where}.rawCNIConfig", machine, name)
        else:  # type SimpleMacvlan: the operator's own words
            checked = _Checked((), _NONE)
        kind = "additional network of OpenShift"
        yield Part(number, kind, checked.findings, where, name, why_not_ours=checked.why_not_ours)


def config_map(
    document: dict[str, Any], machine: Machine, number: int, path: str = "$"
) -> Iterator[Part]:
    """A ConfigMap whose files daemon sets copy into nodes' CNI directories."""
    for key, text in _object(document, "data").items():
        if isinstance(text, str) and OWN_TYPE in text and text.lstrip().startswith("{"):
            where = f"{path}.data[{key!r}]"
            checked = _check_text(text, where, machine, "")
            kind = f"{CONFIGURATION} in a ConfigMap"
            yield Part(number, kind, checked.findings, where, key)


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


@frozen
class _Checked:
    """What is to be said of a configuration."""

    findings: tuple[Finding, ...]
    why_not_ours: str = ""

    @property
    def is_ours(self) -> bool:
        return not self.why_not_ours


def _check_text(text: object, path: str, machine: Machine, name: str) -> _Checked:
    """A configuration as text; `name` is whose text it is, which Multus takes where it has none."""
    if not isinstance(text, str):
        remedy = "write the JSON as text: begin it with config: |"
        return _Checked((error(path, "is not a text", remedy),))
    try:
        document = load_configuration(text.encode("utf-8", "replace"), "it")
    except CniError as refused:
        return _Checked((error(path, f"not JSON: {refused.details}", "correct it there"),))
    return _check({**document, "name": document.get("name") or name}, path, machine)


# --- lists and their entries ---------------------------------------------------------------------


def _check(document: dict[str, Any], path: str, machine: Machine) -> _Checked:
    try:
        entries = list(_entries(document, path))
    except CniError:
        return _Checked((error(f"{path}.plugins", "expected a list", "write [ … ] around it"),))
    mine = [(where, entry) for where, entry in entries if field_of(entry, "type") == OWN_TYPE]
    findings = [
        error(f"{where}.type", f"{kind!r} is not a plugin", f"did you mean {OWN_TYPE!r}?")
        for where, entry in entries
        if keys.is_like_ours(kind := field_of(entry, "type"))
    ]
    if not mine and not findings:
        return _Checked((), _NONE)
    if "plugins" in document:
        findings += _keys_of_list(document, path)
        findings += _more_than_one(mine)
    for where, entry in mine:
        findings += check_plugin(where, entry, machine)
    return _Checked(tuple(findings))


def _more_than_one(mine: list[tuple[str, dict[str, Any]]]) -> Iterator[Finding]:
    for where, _ in mine[1:]:
        yield error(where, f"one more entry of {OWN_TYPE}, whose ADD will fail", "keep one")


def _entries(document: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, configuration) of each plugin: also of those that Multus and flannel call."""
    for where, entry in plugins_in(document):
        place = f"{path}{where[1:]}"
        yield place, entry
        if field_of(entry, "type") == OWN_TYPE:
            continue
        shared: dict[str, Any] = {key: entry[key] for key in ("cniVersion", "name") if key in entry}
        inner = field_of(entry, "delegate")
        if isinstance(inner, dict):
            yield f"{place}.delegate", {**inner, **shared}
        delegates = field_of(entry, "delegates")
        for index, delegate in enumerate(delegates if isinstance(delegates, list) else ()):
            if isinstance(delegate, dict):
                yield from _entries({**shared, **delegate}, f"{place}.delegates[{index}]")


def _keys_of_list(document: dict[str, Any], path: str) -> Iterator[Finding]:
    for key in document:
        if key in keys.OF_LISTS or keys.is_comment(key):
            continue
        where = f"{path}.{key}"
        if key in keys.of_plugin("macvlan"):
            yield warning(
                where, "not a key of a list: nobody reads it", "move it into the plugin's entry"
            )
        elif remedy := keys.meant(key, keys.OF_LISTS):
            yield warning(where, "not a key of a list: nobody reads it", remedy)


def _ending(document: dict[str, Any], ending: str) -> list[Finding]:
    """Runtimes read a .conflist as a list, and .conf and .json as one plugin's configuration."""
    is_list = "plugins" in document
    if is_list and ending in (".conf", ".json"):
        said = f"a list of plugins: runtimes skip it in a {ending} file"
        return [warning("$", said, "name the file .conflist")]
    if not is_list and ending == ".conflist":
        return [warning("$", "no list of plugins: runtimes skip it", "name the file .conf")]
    return []


def not_ours(part: Part, is_alone: bool) -> Part:
    """A part without cni-repair: wrong where nothing else is in the file, else only told."""
    tell = error if is_alone else note
    remedy = f"write {OWN_TYPE} for its type, if its pods are to be repaired"
    said = tell(part.path, part.why_not_ours, remedy if part.why_not_ours == _NONE else "")
    return replace(part, findings=(*part.findings, said))
