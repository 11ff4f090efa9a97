"""What this process may do: without it, pods that are well would look damaged."""

from __future__ import annotations

import errno
import os

from cni_repair.netlink.netns import CLONE_NEWNET, open_own, setns_function

# Bits of CapEff (capabilities(7)), and what takes them.
_CAPABILITIES = {
    12: "CAP_NET_ADMIN",  # netlink inside the pods
    13: "CAP_NET_RAW",  # ARP and neighbour discovery, announcements
    21: "CAP_SYS_ADMIN",  # setns()
}
_REMEDY = (
    "run it as root on the node itself (in a container: privileged, with hostNetwork and hostPID)"
)


def why_refused() -> str:
    """Why this process cannot judge, nor repair, any pod; empty where it can."""
    if os.geteuid() != 0:
        return "must run as root (it reads other processes' namespaces): use sudo"
    effective = _effective()
    missing = [name for bit, name in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: {_REMEDY}"
    own = open_own()
    try:
        setns_function()(own, CLONE_NEWNET)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        # All capabilities, but those of a user namespace: they do not count in the node's.
        return f"it is root of a user namespace only: {_REMEDY}"
    finally:
        os.close(own)
    return ""


def _effective() -> int:
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return int(line.split()[1], 16)
    return -1  # not told: all that is known is that it is root
