"""Readers of what is no JSON: YAML, the kernel's answers, frames from the wire, variables."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

from cni_repair.base import strictyaml
from cni_repair.base.errors import CniError
from cni_repair.base.names import title_of
from cni_repair.cli.commands import validate
from cni_repair.cli.validation.files import check_file
from cni_repair.cli.validation.machine import Machine
from cni_repair.cni.call import check, pod_of
from cni_repair.cni.plugin import VERBS
from cni_repair.netlink import codec, constants
from cni_repair.netlink.socket import ack_in
from cni_repair.network.kernel import address, link, neighbour, route, rule
from cni_repair.network.observe import netnsid_in
from cni_repair.network.reachability import frames
from cni_repair.upgrade.planfile import plan_of
from cni_repair.watch.settings import settings_of
from integration.trust.fed.reader import Form, Odd, Question, Reader

_MAC = "02:00:00:00:00:05"
_IFINDEX = 5
_RTM_NEWNSID = 88
_WORDS_OF_YAML = (
    "version: 1", "driver:", "command: [true]", "- ", ": ", "{", "}", "[", "]", "&a ", "*a", "'",
    "<<: *a", "!!python/object:os.system x", "|\n", ">-\n", "---\n", "...\n", "\t", "#", '"',
    "\\U00110000", "\ufeff", "yes", "12:30", "0x10", "1e999", "~", "spec:", "metadata:", "name: ",
    "kind: NetworkAttachmentDefinition", "apiVersion: k8s.cni.cncf.io/v1", "config: ",
    "holdKubelet: onLoss", "lookEvery: 30s", "9" * 400,
)  # fmt: skip
_WORDS_OF_VARIABLES = (
    "CNI_COMMAND=ADD", "CNI_COMMAND=GC", "CNI_CONTAINERID=", "CNI_IFNAME=", "CNI_NETNS=",
    "CNI_ARGS=", "CNI_PATH=", "K8S_POD_NAME=", "K8S_POD_NAMESPACE=", ";", "=", "..", "/", "%s",
    "\u202e", "\udce4", "IgnoreUnknown=1",
)  # fmt: skip


# --- YAML -----------------------------------------------------------------------------------------


def _plan(raw: bytes) -> list[Question]:
    plan_of(strictyaml.loads(raw, "it"))
    return []


def _settings(raw: bytes) -> list[Question]:
    settings_of(strictyaml.loads(raw, "it"))
    return []


def _validated(name: str) -> Callable[[bytes], list[Question]]:
    """What `validate` says of a file of that name."""

    def read(raw: bytes) -> list[Question]:
        # (One for each: these processes end without a last word.)
        with tempfile.TemporaryDirectory(prefix="cni-repair-fed-", dir="/dev/shm") as directory:
            path = Path(directory, name)
            path.write_bytes(raw)
            parts = check_file(str(path), Machine(()))
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            validate._show(validate.File(str(path), tuple(parts)))
        if not printed.getvalue().replace("\n", "").isprintable():
            raise Odd(f"printed raw: {printed.getvalue()!r}")
        return []

    return read


# --- the kernel -----------------------------------------------------------------------------------


def _netlink(raw: bytes) -> list[Question]:
    """One datagram, each message by all the readers of its kind."""
    bodies: dict[int, list[bytes]] = {}
    for kind, flags, _, body in codec.messages_in(raw):
        bodies.setdefault(kind, []).append(body)
        if kind == 2:  # NLMSG_ERROR
            str(ack_in(flags, body))
    for body in bodies.get(constants.RTM_NEWLINK, ()):
        codec.is_about_bridge_port(body)
        link.host_link(body)
        link.live_link(body)
        link.name_in(body)
        link.names_in(codec.unpack_link(body)[2])
    address.addresses_in(bodies.get(constants.RTM_NEWADDR, ()), _IFINDEX, _MAC)
    route.routes_in(bodies.get(constants.RTM_NEWROUTE, ()), _IFINDEX, str)
    rule.rules_in(bodies.get(constants.RTM_NEWRULE, ()))
    neighbours = bodies.get(constants.RTM_NEWNEIGH, [])
    neighbour.neighbours_in([one for one in neighbours if neighbour.is_permanent(one)], _IFINDEX)
    for body in bodies.get(_RTM_NEWNSID, ()):
        netnsid_in(body)
    return []


def _frame(raw: bytes) -> list[Question]:
    frames.arp_claim(raw)
    frames.advertised(raw)
    frames.discovery_claim(raw)
    return []


# --- CNI_* ----------------------------------------------------------------------------------------


def _variables(raw: bytes) -> list[Question]:
    pairs = (part.partition("=") for part in raw.decode("utf-8", "surrogateescape").split("\0"))
    environ = {name: value for name, sign, value in pairs if sign}
    call = check(environ, b"", VERBS)
    title_of(pod_of(call.args), call.container_id, call.ifname).encode("utf-8", "replace")
    return []


_CNI = (CniError,)
# Of a record `validate` says more by its schema, with jsonschema, which not every machine has.
_OF_VALIDATE = () if find_spec("jsonschema") else (ModuleNotFoundError,)
READERS = (
    Reader("plan", "upgrade plans", Form.YAML, _plan, _CNI, 2, _WORDS_OF_YAML),
    Reader("settings", "the watcher's settings", Form.YAML, _settings, _CNI, 2, _WORDS_OF_YAML),
    Reader(
        "nad",
        "NADs and lists, by validate",
        Form.YAML,
        _validated("it.yaml"),
        _OF_VALIDATE,
        2,
        _WORDS_OF_YAML,
    ),
    Reader(
        "conf", "files of net.d, by validate", Form.JSON, _validated("it.conf"), _OF_VALIDATE, 4
    ),
    Reader("netlink", "the kernel's answers", Form.BYTES, _netlink, _CNI, 200),
    Reader("frame", "ARP and ND from the wire", Form.BYTES, _frame, (), 150),
    Reader("variables", "CNI_*", Form.TEXT, _variables, _CNI, 300, _WORDS_OF_VARIABLES),
)
