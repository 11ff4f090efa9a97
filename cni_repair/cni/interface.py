"""A pod's interface, taken away with few imports: DEL pays for each. (node/detach has the rest.)"""

from __future__ import annotations

from cni_repair.base import lightsocket as socket
from cni_repair.base.closeable import close_fd
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.netns import NoNetns, entered, open_netns, open_own

_ANSWER_SIZE = 1 << 16  # of one link; with its statistics it has two pages at most


def remove(path: str, ifname: str) -> None:
    """Delete the interface of a pod if it stands on a link of another namespace, which none but the
    node can have made. What cannot be deleted is left to the plugin, which says why."""
    own, netns = open_own(), -1
    try:
        netns = open_netns(path)
        with entered(netns, own):
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            _remove(sock, ifname)
        finally:
            sock.close()
    except (NoNetns, OSError):
        pass  # it has gone
    finally:
        if netns >= 0:
            close_fd(netns)
        close_fd(own)


def _remove(sock: socket.socket, ifname: str) -> None:
    name = nl.text(rt.IFLA_IFNAME, ifname)
    # The kernel has answered, or carried it out, before send() returns.
    sock.send(_request(rt.RTM_GETLINK, nl.link_body(0, 0, 0, name)))
    for kind, _, _, body in nl.messages_in(sock.recv(_ANSWER_SIZE)):
        if kind == rt.RTM_NEWLINK:
            ifindex, _, attributes = nl.unpack_link(body)
            # (The kernel finds another link by an alternative name, which a pod can give it.)
            is_it = nl.string_of(attributes.get(rt.IFLA_IFNAME, b"")) == ifname
            if is_it and rt.IFLA_LINK_NETNSID in attributes:
                sock.send(_request(rt.RTM_DELLINK, nl.link_body(ifindex, 0, 0, b"")))


def _request(kind: int, body: bytes) -> bytes:
    return nl.framed(nl.Message(kind, 0, body), rt.NLM_F_REQUEST, 1)
