"""A file as people edit them: what kind of document each one in it is, and what is said of it."""

from __future__ import annotations

import os

from cni_repair.base import strictyaml
from cni_repair.base.errors import CniError
from cni_repair.base.frozen import replace
from cni_repair.base.strictjson import load_configuration
from cni_repair.checkpoint.store import is_legacy
from cni_repair.cli.validation import configurations, records
from cni_repair.cli.validation.findings import Part, error
from cni_repair.cli.validation.keys import near
from cni_repair.cni.conffile import read_file
from cni_repair.upgrade import planfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_repair.cli.validation.machine import Machine

_YAML = (".yaml", ".yml")
_MAX_YAML = 4 << 20
_KEYS_OF_CONFIGURATIONS = {"type", "plugins", "cniVersion", "delegates"}
_UNKNOWN = (
    "neither a network configuration, nor a NetworkAttachmentDefinition, nor a record, nor an"
    " upgrade plan"
)
_SYNTAX = "document"


def check_file(path: str, machine: Machine) -> list[Part]:
    """All parts of a file. Raises OSError where it cannot be read."""
    raw = read_file(path)
    name = os.path.basename(path)
    try:
        documents = _documents(path, raw)
    except CniError as refused:
        said = (
            refused.details
            if path.lower().endswith(_YAML)
            else f"cannot decode it: {refused.details}"
        )
        return [Part(1, _SYNTAX, (error("", said),))]
    if any(_is_plan(document) for document in documents):
        return [_plan(path)]
    parts: list[Part] = []
    for number, document in enumerate(documents, 1):
        parts += _parts(document, machine, number, raw, name)
    alone = all(part.why_not_ours for part in parts)
    return [configurations.not_ours(part, alone) if part.why_not_ours else part for part in parts]


def _documents(path: str, raw: bytes) -> list[Any]:
    if path.lower().endswith(_YAML):
        return strictyaml.loads_all(raw, path, _MAX_YAML)
    try:
        return [load_configuration(raw, path)]
    except CniError:
        # YAML under another name, as `kubectl get -o yaml >nad.txt` leaves it?
        found = _yaml(path, raw) if raw.lstrip()[:1] not in (b"{", b"[", b"") else []
        if not any(isinstance(document, dict) for document in found):
            raise
        return found


def _yaml(path: str, raw: bytes) -> list[Any]:
    try:
        return strictyaml.loads_all(raw, path, _MAX_YAML)
    except CniError:
        return []


def _is_plan(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and bool(planfile.KEYS & document.keys())
        and not {"kind", "apiVersion", *_KEYS_OF_CONFIGURATIONS} & document.keys()
    )


def _plan(path: str) -> Part:
    kind = "upgrade plan"
    try:
        plan = planfile.read_plan(path)
    except planfile.PlanError as refused:
        return Part(1, kind, tuple(error("", problem) for problem in refused.problems))
    # Said, not refused: plans are validated on laptops, too.
    missing = planfile.check_command(plan.driver.command)
    return Part(1, f"{kind} (not on this machine: {missing})" if missing else kind, ())


def _parts(document: Any, machine: Machine, number: int, raw: bytes, name: str) -> Iterator[Part]:
    if not isinstance(document, dict):
        if document is not None:  # an empty document between two lines of `---`
            yield Part(number, _SYNTAX, (error("$", _UNKNOWN, "begin from an example in conf/"),))
    elif "schemaVersion" in document:
        yield Part(number, "checkpoint", records.check(raw, document, name))
    elif "sandbox" in document and is_legacy(name):
        kind = "checkpoint of the predecessor's format"
        yield Part(number, kind, records.check_legacy(raw, name))
    elif "kind" in document or "apiVersion" in document:
        yield from _objects(document, machine, number, "$")
    elif _KEYS_OF_CONFIGURATIONS & document.keys():
        ending = os.path.splitext(name)[1].lower()
        part = configurations.configuration(document, machine, number, ending)
        yield _as_yaml(part) if ending in _YAML else part
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
