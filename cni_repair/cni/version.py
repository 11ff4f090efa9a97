"""VERSION, and what follows from the delegate's versions."""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.base.gotypes import field_of
from cni_repair.base.names import OWN_TYPE
from cni_repair.base.strictjson import dumps, load_configuration, load_object
from cni_repair.cni import delegate
from cni_repair.cni.master import likely_master
from cni_repair.cni.netconf import DEFAULT_DELEGATE, VERSIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.cni.call import Call
    from cni_repair.cni.netconf import NetConf


def version(call: Call) -> tuple[str, int]:
    """Print the versions that both the delegate and cni-repair support.

    0.1.0 is among them: for a configuration without a version libcni (ValidateNetworkList, which
    CRI-O calls) refuses a plugin that does not name it.
    """
    asked = load_configuration(call.stdin, "the VERSION request") if call.stdin.strip() else {}
    wrapped = field_of(asked, "delegate") or DEFAULT_DELEGATE
    plugin = field_of(wrapped, "type") or DEFAULT_DELEGATE if isinstance(wrapped, dict) else wrapped
    theirs = _versions_of(str(plugin), call)
    supported = [known for known in VERSIONS if known in theirs] or list(VERSIONS)
    named = field_of(asked, "cniVersion")
    spoken = named if named in VERSIONS else supported[-1]
    return dumps({"cniVersion": spoken, "supportedVersions": supported}), 0


def pass_on(call: Call, conf: NetConf) -> None:
    """Call the delegate, too, if it knows the verbs that CNI 1.1.0 added (STATUS, GC): it refuses
    them for a configuration of an older version."""
    if conf.cni_version == VERSIONS[-1] and VERSIONS[-1] in _versions_of(conf.delegate, call):
        delegate.call(conf.delegate, call.environ, conf.for_delegate(likely_master(conf)))


def _versions_of(plugin: str, call: Call) -> list[Any]:
    """The versions that a plugin says it supports; empty where it cannot be asked."""
    if plugin == OWN_TYPE:
        return []
    environ = {**call.environ, "CNI_COMMAND": "VERSION"}
    try:
        answer = delegate.call(plugin, environ, {"cniVersion": VERSIONS[-2]})
        versions = field_of(load_object(answer, "its VERSION answer"), "supportedVersions")
    except CniError:
        return []
    return versions if isinstance(versions, list) else []
