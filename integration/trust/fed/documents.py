"""Readers of JSON: configurations, records, caches, what plugins print."""

from __future__ import annotations

import base64
import json
from typing import Any

from cni_repair.adoption import caches, verdict
from cni_repair.adoption.candidates import candidates
from cni_repair.base import gotypes
from cni_repair.base.errors import CniError
from cni_repair.base.kinds import Misfit
from cni_repair.base.strictjson import dumps, fold, load_object, loads
from cni_repair.checkpoint import legacy, model
from cni_repair.checkpoint.result import attachment_in
from cni_repair.checkpoint.store import Key
from cni_repair.cni import delegate, gc, netconf
from cni_repair.cni.result import convert
from cni_repair.network.model import HostLink
from cni_repair.network.observed import Observed
from cni_repair.network.operations.base import Target
from cni_repair.network.planning.plan import plan
from cni_repair.node.capture import kept
from cni_repair.node.capture import pod_of as adopted_pod
from cni_repair.node.leases import given_addresses, store_of
from cni_repair.upgrade.journal import events_in
from cni_repair.upgrade.progress import progress_of, remaining
from cni_repair.uplink.fallback import other_masters
from cni_repair.watch import pausing, status
from integration.trust.fed.reader import Answer, Form, Odd, Question, Reader

_CONTAINER = "0123456789abcdef" * 4
_MASTER = HostLink("eth0.3", 7, "02:00:00:00:00:03", "", 1500)
_TARGET = Target(5, 7, 9, (("net1", 6),))
_WITHOUT_VERSION = "0.1.0"
_KEYS = (
    "type", "TYPE", "Type", "t\u0443pe", "ipam", "IPAM", "name", "Name", "cniVersion", "CNIVersion",
    "dataDir", "datadir", "mas\u017fter", "lin\u212aInContainer", "ips", "IPs", "interfaces",
    "routes", "dst", "gw", "address", "gateway", "interface", "mac", "sandbox", "0.4.0", "1.0.0",
    "1.1.0", "0.2.0", "host-local", "macvlan", "10.9.0.5/24", "fd00::5/64", "0.0.0.0/0", "::/0",
    "::ffff:10.9.0.5/120", "10.9.0.5", "\\ud800", "1e309", "1e-400", "null", "true", "[]", "{}",
)  # fmt: skip


# --- network configurations -----------------------------------------------------------------------


def _netconf(raw: bytes) -> list[Question]:
    """As each verb reads it: ADD strictly, DEL, GC and CHECK with tolerance."""
    netconf.version_asked(raw)
    netconf.network_named(raw)
    try:
        conf = netconf.parse(raw)
    except CniError:
        _of_what_is_there(raw, netconf.parse(raw, tolerant=True))
        return [_said(raw, netconf.parse(raw, tolerant=True), may_refuse=True)]
    _of_what_is_there(raw, netconf.parse(raw, tolerant=True))
    dumps(kept(conf.document))
    same = Question("J", raw, dumps(conf.document).encode())
    return [same, _said(raw, conf, may_refuse=False)]


def _of_what_is_there(raw: bytes, conf: netconf.NetConf) -> None:
    handed = load_object(dumps(conf.for_delegate("eth0")).encode(), "what the delegate gets")
    if handed.get("type") != conf.delegate or handed.get("master") != "eth0":
        raise Odd(f"the delegate gets {handed}")


def _said(raw: bytes, conf: netconf.NetConf, may_refuse: bool) -> Question:
    """Whether a plugin in Go reads the same of what came, and of what it is handed."""
    overridden = any(fold(key) == "delegate" for key in conf.document)

    def wrong(answer: Answer) -> str:
        read, beside = answer["read"], answer.get("beside")
        version = read.get("cniVersion") or _WITHOUT_VERSION
        ours = {"name": conf.name, "version": conf.cni_version}
        theirs = {"name": read.get("name", ""), "version": version}
        if not overridden:
            ours["ipam"] = conf.ipam_type
            theirs["ipam"] = read["ipam"].get("type", "")
            if not answer["same"]:
                return "what the delegate is handed says something else"
        if ours != theirs:
            return f"read as {ours}, and by Go as {theirs}"
        return _attachments_differ(conf, beside)

    return Question("N", raw, dumps(conf.for_delegate(None)).encode(), wrong, may_refuse)


def _attachments_differ(conf: netconf.NetConf, beside: Answer | None) -> str:
    try:
        ours = {(key.container_id, key.ifname) for key in gc.valid_attachments(conf)}
    except CniError:
        return ""
    if beside is None:
        return f"GC keeps {sorted(ours)}, and Go refuses the list"
    listed = [one for name in netconf.VALID_ATTACHMENTS for one in beside[name] or []]
    theirs = {(one["containerID"], one["ifname"]) for one in listed}
    return "" if ours == theirs else f"GC keeps {sorted(ours)}, and Go reads {sorted(theirs)}"


# --- any document, and records --------------------------------------------------------------------


def _json(raw: bytes) -> list[Question]:
    value = loads(raw, "it")
    text = dumps(value)
    if loads(text.encode(), "it") != value:
        raise Odd("what is written of it reads otherwise")
    return [Question("J", raw, text.encode())]


def _record(raw: bytes) -> list[Question]:
    """A record, its checksum made right, and what REPAIR makes of it."""
    raw, name = _sealed(raw)
    checkpoint = model.decode(raw, name)
    again = model.encode_checked(checkpoint)
    if model.decode(again.encode(), name) != checkpoint:
        raise Odd("what is written of it reads otherwise")
    desired = checkpoint.attachment
    for master in (_MASTER, None):
        planned = plan(desired, Observed(0, None), master)
        for step in planned.operations:
            step.describe(checkpoint.netns_path)
            step.requests(_TARGET)
    store_of(checkpoint)
    given_addresses(checkpoint)
    other_masters(checkpoint)
    for version in netconf.VERSIONS:
        dumps(convert(checkpoint.result, version))
    return []


def _sealed(raw: bytes) -> tuple[bytes, str]:
    """With the checksum and under the name that it asks for, where it has them."""
    try:
        document = json.loads(raw)
        stands = document["checksum"]
        name = f"{document['containerId']}@{document['ifname']}.json"
        right = model.checksum(raw, stands)
        return right.encode().join(raw.rsplit(stands.encode(), 1)), name
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return raw, "none.json"


def _legacy(raw: bytes) -> list[Question]:
    checkpoint = legacy.decode(raw, _CONTAINER[:12], (_MASTER,))
    planned = plan(checkpoint.attachment, Observed(0, None), _MASTER)
    for step in planned.operations:
        step.describe(checkpoint.netns_path)
        step.requests(_TARGET)
    for version in netconf.VERSIONS:
        dumps(convert(checkpoint.result, version))
    return []


# --- what plugins print ---------------------------------------------------------------------------


def _result(raw: bytes) -> list[Question]:
    result = gotypes.respelled(load_object(raw, "the Result"), gotypes.RESULT)
    attachment = attachment_in(result, "eth0", (_MASTER,), "bridge", 1500)
    for version in netconf.VERSIONS:
        dumps(convert(result, version))
    ours = sorted(f"{one.address}/{one.prefix}" for one in attachment.addresses)

    def wrong(answer: Answer) -> str:
        read = answer["read"]
        interfaces = read.get("interfaces") or []
        theirs = sorted(
            one["address"]
            for one in read.get("ips") or []
            if not 0 <= one.get("interface", -1) < len(interfaces)
            or interfaces[one["interface"]]["name"] == "eth0"
        )
        # (Of 16 bytes for an IPv4 address Go's String() gives no length that is one.)
        is_mapped = any(one.endswith("/0") for one in theirs)
        return "" if ours == theirs or is_mapped else f"addresses {ours}, and by Go {theirs}"

    # Without a version Go takes it for one of before 0.3.0, which has no `ips`.
    has_list = result.get("cniVersion") in netconf.VERSIONS[2:]
    return [Question("R", raw, wrong=wrong, may_refuse=True)] if has_list else []


def _error(raw: bytes) -> list[Question]:
    error = delegate._error_of("macvlan", 1, raw)
    dumps(error.document("1.0.0"))
    str(error)
    return []


# --- what runtimes leave --------------------------------------------------------------------------


def _cache(raw: bytes) -> list[Question]:
    try:
        document = json.loads(raw)
        name = "-".join(document[key] for key in ("networkName", "containerId", "ifName"))
    except (ValueError, LookupError, TypeError, RecursionError):
        name = f"podnet-{_CONTAINER}-eth0"
    (found,) = caches._entry(caches.File(f"/cache/{name}", raw, 0))
    _candidates([found])

    def wrong(answer: Answer) -> str:
        read = answer["read"]
        if read["kind"] != "cniCacheV1":
            return ""  # only a Result
        ours = [found.key.container_id, found.key.ifname, found.network]
        theirs = [read["containerId"], read["ifName"], read["networkName"]]
        args = dict(read.get("cniArgs") or [])
        if ours != theirs or {**args, **found.args} != found.args:
            return f"read as {[*ours, found.args]}, and by Go as {[*theirs, args]}"
        named = read.get("netns", "")
        return "" if found.netns == named or not named else f"netns {found.netns!r}, not {named!r}"

    return [Question("C", raw, wrong=wrong)]


def _config(raw: bytes) -> list[Question]:
    """The configuration within such an entry."""
    plugins = caches._plugins(base64.b64encode(raw))
    found = caches.Remembered("file", Key(_CONTAINER, "eth0"), 0, "", "", plugins, {}, {})
    _candidates([found])
    return [_type_of(raw, plugins[0])] if plugins and "plugins" not in load_any(raw) else []


def load_any(raw: bytes) -> Any:
    return json.loads(raw.decode("utf-8", "replace"))


def _type_of(raw: bytes, plugin: dict[str, Any]) -> Question:
    kind = plugin.get("type")
    ours = kind if isinstance(kind, str) else ""

    def wrong(answer: Answer) -> str:
        theirs = answer["read"].get("type", "")
        return "" if ours == theirs else f"type {ours!r}, and by Go {theirs!r}"

    return Question("N", raw, dumps(plugin).encode(), wrong, may_refuse=True)


def _multus(raw: bytes) -> list[Question]:
    _candidates(caches._scratch(caches.File(f"/cache/{_CONTAINER}", raw, 0)))
    return []


def _candidates(remembered: list[caches.Remembered]) -> None:
    for candidate in candidates(remembered, "podnet"):
        try:
            verdict._said(candidate, (_MASTER,))
            verdict._mac_asked_for(candidate)
            adopted_pod(candidate.args)
            dumps(kept(candidate.plugin or {}))
        except verdict.NotAdopted:
            pass


# --- ours -----------------------------------------------------------------------------------------


def _journal(raw: bytes) -> list[Question]:
    progress = progress_of(events_in(raw.split(b"\n")))
    progress.standing("boot", alive=False)
    remaining(progress)
    return []


def _run_dir(raw: bytes) -> list[Question]:
    """What the watcher has left, for its views."""
    document = load_object(raw, "it")
    try:
        status._check(document, "/run")
    except CniError:
        pausing._pause_of(document, "it").words(5.0)
    return []


_CNI = (CniError,)
_FROM_CACHES = (CniError, Misfit)
READERS = (
    Reader("netconf", "network configurations on stdin", Form.JSON, _netconf, _CNI, 100, _KEYS),
    Reader("json", "any JSON", Form.JSON, _json, _CNI, 100, _KEYS),
    Reader("record", "records, and their repair", Form.JSON, _record, _CNI, 5, _KEYS),
    Reader("legacy", "the predecessor's files", Form.JSON, _legacy, _CNI, 10, _KEYS),
    Reader(
        "result", "what a delegate prints", Form.JSON, _result, (CniError, ValueError), 30, _KEYS
    ),
    Reader("error", "a delegate's error", Form.JSON, _error, (), 30, _KEYS),
    Reader("cache", "libcni's cache", Form.JSON, _cache, (*_FROM_CACHES, ValueError), 20, _KEYS),
    Reader("config", "configurations in it", Form.JSON, _config, _FROM_CACHES, 30, _KEYS),
    Reader("multus", "Multus' files", Form.JSON, _multus, _FROM_CACHES, 20, _KEYS),
    Reader("rundir", "the watcher's status and pause", Form.JSON, _run_dir, _CNI, 10),
    Reader("journal", "an upgrade's journal", Form.TEXT, _journal, (), 20, _KEYS),
)
