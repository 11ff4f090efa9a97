"""Checkpoint documents: of the samples, changed in one place; and the published schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cni_repair.base.errors import BAD_CHECKPOINT, CniError
from cni_repair.base.frozen import replace
from cni_repair.base.strictjson import dumps
from cni_repair.checkpoint import model
from tests.unit import documents
from tests.unit.documents import Place
from tests.unit.samples import CHECKPOINT, NODE_LINKS, SETTLED
from tests.unit.schemas import schema_of, validator_of

NAME = f"{CHECKPOINT.key.name}.json"
FULL = replace(
    CHECKPOINT,
    attachment=SETTLED,
    node_links=NODE_LINKS,
    accepted_addresses=("fe80::155",),
    gateway_macs=(model.GatewayMac("10.161.72.1", "52:54:00:00:00:fe"),),
)


SCHEMA = schema_of("cni_repair.checkpoint", "checkpoint.json")
VALIDATOR = validator_of(SCHEMA)


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
