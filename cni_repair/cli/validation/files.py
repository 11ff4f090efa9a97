"""A file as people edit them: what kind of document each one in it is, and what is said of it."""

from __future__ import annotations

import codecs
import os

from cni_repair.base import strictyaml
from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.strictjson import load_configuration
from cni_repair.checkpoint.store import is_legacy
from cni_repair.cli.validation import configurations, records
from cni_repair.cli.validation.findings import Part, error
from cni_repair.cli.validation.keys import near
from cni_repair.cni.conffile import read_file
from cni_repair.upgrade import planfile
from cni_repair.upgrade.digest import digest_of
from cni_repair.upgrade.drivercommand import check_command
from cni_repair.watch import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_repair.cli.validation.machine import Machine

_YAML = (".yaml", ".yml")
_MAX_YAML = 4 << 20
_KEYS_OF_CONFIGURATIONS = {"type", "plugins", "cniVersion", "delegates", "ipam"}
_OTHERS_KEYS = {"kind", "apiVersion", *_KEYS_OF_CONFIGURATIONS}
_UNKNOWN = (
    "neither a network configuration, nor a NetworkAttachmentDefinition, nor a record, nor an"
    " upgrade plan, nor the watcher's configuration"
)
_SYNTAX = "document"


@frozen
class _Source:
    """A file as it was read."""

    raw: bytes
    name: str
    documents: list[Any]
    is_yaml: bool


def check_file(path: str, machine: Machine) -> list[Part]:
    """All parts of a file. Raises OSError where it cannot be read."""
    raw = read_file(path)
    try:
        source = _read(path, raw)
    except CniError as refused:
        return [Part(1, _SYNTAX, (error("", _undecodable(path, raw, refused.details)),))]
    own = _own_part(path, source.documents)
    if own is not None:
        return [own]
    parts: list[Part] = []
    for number, document in enumerate(source.documents, 1):
        parts += _parts(document, machine, number, source)
    if not parts:
        return [Part(1, _SYNTAX, (error("", "it is empty", "begin from an example in conf/"),))]
    alone = all(part.why_not_ours for part in parts)
    return [configurations.not_ours(part, alone) if part.why_not_ours else part for part in parts]


def _undecodable(path: str, raw: bytes, why: str) -> str:
    said = why if path.lower().endswith(_YAML) else f"cannot decode it: {why}"
    if b"{{" in raw and b"}}" in raw:
        said += " (a template? Validate what is made of it: helm template …)"
    return said


def _read(path: str, raw: bytes) -> _Source:
    name = os.path.basename(path)
    if path.lower().endswith(_YAML):
        return _Source(raw, name, strictyaml.loads_all(raw, path, _MAX_YAML), is_yaml=True)
    try:
        return _Source(raw, name, [load_configuration(raw, path)], is_yaml=False)
    except CniError:
        # YAML under another name, as `kubectl get -o yaml >nad.txt` leaves it? (What begins as JSON
        # does, after a byte order mark, too, was meant to be it.)
        begins = raw.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
        found = _yaml(path, raw) if begins not in (b"{", b"[", b"") else []
        if not any(isinstance(document, dict) for document in found):
            raise
        return _Source(raw, name, found, is_yaml=True)


def _yaml(path: str, raw: bytes) -> list[Any]:
    try:
        return strictyaml.loads_all(raw, path, _MAX_YAML)
    except CniError:
        return []


def _own_part(path: str, documents: list[Any]) -> Part | None:
    """The part of a file in a format of our own; None where it is none."""
    for document in documents:
        if not isinstance(document, dict) or _OTHERS_KEYS & document.keys():
            continue
        if (planfile.KEYS | settings.KEYS) & document.keys():
            return _settings(path) if _is_of_watch(document) else _plan(path)
    return None


def _is_of_watch(document: dict[str, Any]) -> bool:
    """Whether it is nearer to the watcher's configuration than to an upgrade plan: they share keys,
    and others may be misspelt. (A plan has a driver.)"""
    as_plan, as_settings = (
        sum(bool(near(key, tuple(keys))) for key in document)
        for keys in (planfile.KEYS, settings.KEYS)
    )
    return as_settings > as_plan or (as_settings == as_plan and "driver" not in document)


def _plan(path: str) -> Part:
    kind = "upgrade plan"
    try:
        plan = planfile.read_plan(path)
    except planfile.PlanError as refused:
        return Part(1, kind, tuple(error("", problem) for problem in refused.problems))
    # Said, not refused: plans are validated on laptops, too.
    missing = check_command(plan.driver.command)
    said = f"{kind} (not on this machine: {missing})" if missing else kind
    return Part(1, said, (), digest=digest_of(plan))


def _settings(path: str) -> Part:
    kind = settings.SettingsError.kind
    try:
        settings.check_settings(path)
    except settings.SettingsError as refused:
        return Part(1, kind, tuple(error("", problem) for problem in refused.problems))
    return Part(1, kind, ())


def _parts(document: Any, machine: Machine, number: int, source: _Source) -> Iterator[Part]:
    if not isinstance(document, dict):
        if document is not None:  # an empty document between two lines of `---`
            yield Part(number, _SYNTAX, (error("$", _UNKNOWN, "begin from an example in conf/"),))
    elif "schemaVersion" in document:
        yield Part(number, "checkpoint", records.check(source.raw, document, source.name))
    elif "sandbox" in document and is_legacy(source.name):
        kind = "checkpoint of the predecessor's format"
        yield Part(number, kind, records.check_legacy(source.raw, source.name))
    elif "kind" in document or "apiVersion" in document:
        found = list(_objects(document, machine, number, "$"))
        yield from found or [_of_others(document, str(document.get("kind") or ""), number, "$")]
    elif _KEYS_OF_CONFIGURATIONS & document.keys():
        ending = os.path.splitext(source.name)[1].lower()
        part = configurations.configuration(document, machine, number, ending)
        yield _as_yaml(part) if source.is_yaml else part
    else:
        yield Part(number, _SYNTAX, (error("$", _UNKNOWN, "begin from an example in conf/"),))


def _as_yaml(part: Part) -> Part:
    said = error("$", "a network configuration in YAML: runtimes read JSON", "write it as JSON")
    return replace(part, findings=(said, *part.findings), why_not_ours="")


def _objects(document: dict[str, Any], machine: Machine, number: int, path: str) -> Iterator[Part]:
    """The parts of a Kubernetes object that matter to us."""
    kind = str(document.get("kind") or "")
    inner = document.get("objects" if kind == "Template" else "items")
    if kind.endswith(("List", "Template")) and isinstance(inner, list):
        key = "objects" if kind == "Template" else "items"
        for index, entry in enumerate(inner):
            if isinstance(entry, dict):
                of_one_kind = {"apiVersion": document.get("apiVersion"), "kind": kind[:-4]}
                entry = {**(of_one_kind if kind == f"{configurations.NAD}List" else {}), **entry}
                yield from _objects(entry, machine, number, f"{path}.{key}[{index}]")
    elif kind == configurations.NAD:
        yield configurations.attachment_definition(document, machine, number, path)
    elif kind == "Network" and isinstance(document.get("spec"), dict):
        yield from configurations.operator_networks(document, machine, number, path)
    elif kind == "ConfigMap":
        yield from configurations.config_map(document, machine, number, path)
    else:
        yield _of_others(document, kind, number, path)


def _of_others(document: dict[str, Any], kind: str, number: int, path: str) -> Part:
    if near(kind, (configurations.NAD,)):
        wrong = error(f"{path}.kind", f"{kind!r} is not a kind", f"write {configurations.NAD}")
        return Part(number, "document", (wrong,), path)
    why = f"nothing that cni-repair reads: {kind or 'an object without a kind'}"
    return Part(number, kind or "document", (), path, why_not_ours=why)
