"""What of a configuration exists on this machine: worth a note, for it may be a laptop."""

from __future__ import annotations

import os
import socket

from cni_repair.base.frozen import frozen
from cni_repair.base.names import valid_id, valid_ifname

# Where runtimes look by default (containerd, CRI-O, podman), and where Debian has them.
_DIRECTORIES = ("/opt/cni/bin", "/usr/libexec/cni", "/usr/lib/cni")


@frozen
class Machine:
    """Where plugins are looked for."""

    directories: tuple[str, ...]

    def has_plugin(self, kind: str) -> bool:
        return valid_id(kind) and any(
            os.access(f"{directory}/{kind}", os.X_OK) for directory in self.directories
        )

    def has_link(self, name: str) -> bool:
        """By its name, or by an alternative one."""
        if not valid_ifname(name):
            return _has_long_altname(name)
        try:
            socket.if_nametoindex(name)
        except OSError:
            return False
        return True


def _has_long_altname(name: str) -> bool:
    # struct ifreq has no room for an altname of more than 15 bytes.
    from cni_repair.netlink.socket import Rtnetlink
    from cni_repair.network.observe import link_named

    with Rtnetlink() as rtnl:
        return link_named(rtnl, name) is not None


def this_machine() -> Machine:
    given = [path for path in os.environ.get("CNI_PATH", "").split(":") if path.startswith("/")]
    return Machine((*given, *_DIRECTORIES))
