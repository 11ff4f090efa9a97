"""The records of the predecessor plugin (12-character files), read as they are.

Before cni-repair there was a plugin, written for one site after one incident, that kept a file for
each pod, named after the first twelve characters of the container id. Nodes that change over to
cni-repair still have such files; we read them, and never write one.

    {"netns": "/proc/PID/ns/net", "podname": …, "sandbox": <container id>, "ifname": …, "result": …}

They tell neither the network namespace's identity nor the master, nor the link's mode and MTU. The
last three come from the network's configuration; without one, the attachment is skipped, and the
reason given.
"""

from __future__ import annotations

from cni_repair.base.errors import BAD_CHECKPOINT, CniError
from cni_repair.base.gotypes import RESULT, respelled
from cni_repair.base.names import valid_id, valid_ifname
from cni_repair.base.strictjson import load_object
from cni_repair.checkpoint.model import Checkpoint, Pod
from cni_repair.checkpoint.result import attachment_in
from cni_repair.checkpoint.store import NOT_USED, Key
from cni_repair.network.model import HostLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# For those who read a file without its network's configuration, and use no master of it.
ANY_MASTER = (HostLink("any", 0, "", "", 0),)


def decode(
    raw: bytes, name: str, parents: tuple[HostLink, ...], mode: str = "bridge", mtu: int = 0
) -> Checkpoint:
    """Read one of the predecessor's records; what it lacks comes from the caller.

    Raises CniError (BAD_CHECKPOINT) that names the file.
    """
    try:
        document = load_object(raw, "the document")
        return _read(document, name, parents, mode, mtu)
    except (CniError, ValueError) as error:
        raise CniError(BAD_CHECKPOINT, NOT_USED, f"{error} (file {name})") from error


def _read(
    document: dict[str, Any], name: str, parents: tuple[HostLink, ...], mode: str, mtu: int
) -> Checkpoint:
    sandbox, ifname, netns = (_text(document, key) for key in ("sandbox", "ifname", "netns"))
    if not valid_id(sandbox) or not sandbox.startswith(name):
        raise ValueError(f"sandbox {sandbox!r} is not the one that the file is named after")
    if not valid_ifname(ifname):
        raise ValueError(f"ifname {ifname!r} is no interface name")
    result = respelled(document.get("result"), RESULT)
    if not isinstance(result, dict):
        raise ValueError("result: expected an object")
    attachment = attachment_in(result, ifname, parents, mode, mtu)
    if not attachment.link.mac:
        raise ValueError(f"result.interfaces: no MAC of {ifname}")
    return Checkpoint(
        key=Key(sandbox, ifname),
        network="",
        pod=Pod(name=_text(document, "podname")),
        attached_at=0,
        netns=None,
        netns_path=netns,
        delegate="macvlan",
        netconf={},
        result=result,
        attachment=attachment,
    )


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected a text")
    return value
