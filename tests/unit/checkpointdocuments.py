"""Checkpoint documents: of the samples, changed in one place; and the published schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import jsonschema
import pytest

from cni_repair.base.errors import BAD_CHECKPOINT, CniError
from cni_repair.base.frozen import replace
from cni_repair.base.strictjson import dumps
from cni_repair.checkpoint import model
from tests.unit import documents
from tests.unit.documents import Place
from tests.unit.samples import CHECKPOINT, NODE_LINKS, SETTLED

NAME = f"{CHECKPOINT.key.name}.json"
FULL = replace(
    CHECKPOINT,
    attachment=SETTLED,
    node_links=NODE_LINKS,
    accepted_addresses=("fe80::155",),
    gateway_macs=(model.GatewayMac("10.161.72.1", "52:54:00:00:00:fe"),),
)


def _pattern(
    _: object, pattern: str, instance: object, __: object
) -> Iterator[jsonschema.ValidationError]:
    """`pattern` as ECMA-262 has it, where `$` does not match before a last newline."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


SCHEMA = json.loads(
    (resources.files("cni_repair.checkpoint") / "schema" / "checkpoint.json").read_text()
)
VALIDATOR = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator, {"pattern": _pattern}
)(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def document_of(checkpoint: model.Checkpoint = CHECKPOINT) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(model.encode(checkpoint))
    return document


def sealed(document: dict[str, Any]) -> bytes:
    """The file of a document that somebody changed and gave a right checksum again."""
    zeros = "crc32:00000000"
    raw = dumps({**document, "checksum": zeros}).encode()
    return dumps({**document, "checksum": model.checksum(raw, zeros)}).encode()


def ack(raw: bytes, name: str = NAME) -> CniError:
    with pytest.raises(CniError) as caught:
        model.decode(raw, name)
    assert caught.value.code == BAD_CHECKPOINT
    assert caught.value.details.endswith(f" (file {name})")
    return caught.value


def is_read(document: dict[str, Any]) -> bool:
    try:
        name = f"{document.get('containerId')}@{document.get('ifname')}.json"
        model.decode(sealed(document), name)
    except CniError as error:
        assert error.code == BAD_CHECKPOINT
        return False
    return True


def places_in(value: object) -> Iterator[Place]:
    """Every place of a document, but not inside the two objects that are free."""
    return documents.places_in(value, closed=("netconf", "result"))
