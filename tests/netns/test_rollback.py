"""A node whose records a newer version wrote, and that was rolled back to this one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from cni_repair.base.strictjson import dumps
from cni_repair.checkpoint import model
from tests.netns.rig import Attachment, Json, Rig


def rewrite(rig: Rig, was: Attachment, change: Callable[[Json], None]) -> None:
    """Have the record be as another version would have written it."""
    path = rig.checkpoint(was.pod)
    document = json.loads(path.read_text())
    change(document)
    zeros = "crc32:00000000"
    raw = dumps({**document, "checksum": zeros}).encode()
    path.write_text(dumps({**document, "checksum": model.checksum(raw, zeros)}))


def record(rig: Rig, was: Attachment) -> Json:
    document: Json = json.loads(rig.checkpoint(was.pod).read_text())
    return document


def as_tomorrow(document: Json) -> None:
    document["traffic"] = {"shaped": [1, 2]}
    document["link"]["newQueue"] = 9
    document["addresses"][0]["newFlag"] = True
    document["parents"][0]["newPort"] = "p1"
    document["sysctls"]["ipv4/new_one"] = "3"


def test_repaired_by_tomorrows_record_which_loses_nothing(rig: Rig) -> None:
    was = rig.attach("pod1")
    rewrite(rig, was, as_tomorrow)
    rig.reload()
    assert rig.plugin("REPAIR", None).report(0)["summary"]["healthy"] == 1
    assert rig.state(was.pod) == was.state
    rig.ip("addr add 10.77.0.1/24 dev eth0", was.pod)
    done = rig.cli("snapshot", "--checkpoint-dir", rig.conf()["checkpointDir"])
    assert done.status == 0, done
    refreshed = record(rig, was)
    assert [one["address"] for one in refreshed["addresses"]] == [was.address, "10.77.0.1"]
    assert refreshed["traffic"] == {"shaped": [1, 2]}
    assert refreshed["link"]["newQueue"] == 9
    assert refreshed["addresses"][0]["newFlag"] is True
    assert "newFlag" not in refreshed["addresses"][1]
    assert refreshed["parents"][0]["newPort"] == "p1"
    assert refreshed["sysctls"]["ipv4/new_one"] == "3"


def test_a_record_that_needs_a_newer_version_is_named_and_left(rig: Rig) -> None:
    was, other = rig.attach("pod1"), rig.attach("pod2")
    newer = model.READER_VERSION + 1
    rewrite(rig, was, lambda document: document.update(minReader=newer))
    kept = rig.checkpoint(was.pod).read_bytes()
    rig.reload()
    report = rig.plugin("REPAIR", None).report(1)
    assert report["summary"] | {"unreadable": 1, "healthy": 1} == report["summary"]
    (unreadable,) = [one for one in report["attachments"] if one["state"] == "unreadable"]
    assert unreadable["containerID"] == was.pod.id
    assert f"minReader {newer}" in unreadable["error"]["details"]
    assert "upgrade" in unreadable["error"]["details"]
    assert rig.state(other.pod) == other.state
    assert rig.checkpoint(was.pod).read_bytes() == kept


@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
def test_the_runtimes_verbs_work_with_tomorrows_record(rig: Rig, verb: str) -> None:
    was = rig.attach("pod1")
    rewrite(rig, was, as_tomorrow)
    conf = {**rig.conf(), "prevResult": was.result}
    rig.plugin(verb, was.pod, conf).ok()
    assert rig.checkpoint(was.pod).exists() == (verb == "CHECK")
