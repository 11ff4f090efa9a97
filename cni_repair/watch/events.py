"""What the kernel tells of the node's links, as it happens: by pyroute2."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import NLMSG_DONE
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTMGRP_LINK
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.link import names_in
from cni_repair.network.model import IFF_RUNNING, IFF_UP

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

# Each macvlan that is made or deleted is one message of its master; the default buffer holds 91.
BUFFER_BYTES = 8 << 20
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python does not name it
_AGAIN_SECONDS = 1.0  # after a failure that is not an overflow


class LinkEvent(NamedTuple):
    """A link of the node, as it is by this message."""

    gone: bool
    ifindex: int
    names: tuple[str, ...]
    up: bool
    carrier: bool


def link_event(kind: int, body: bytes) -> LinkEvent:
    """What RTM_NEWLINK or RTM_DELLINK says."""
    ifindex, flags, attributes = nl.unpack_link(body)
    return LinkEvent(
        kind == rt.RTM_DELLINK,
        ifindex,
        names_in(attributes),
        bool(flags & IFF_UP),
        bool(flags & IFF_RUNNING),
    )


class _LinkMarshal(MarshalRtnl):  # type: ignore[misc]  # pyroute2 is not typed
    """Reads only what is wanted of a link's message: a sixth of the time, and 2,000 pods that are
    made again are as many messages."""

    def parse(
        self, data: bytes, seq: int | None = None, callback: Any = None, skip_alien_seq: Any = False
    ) -> Iterator[Any]:
        for kind, flags, _, body in nl.messages_in(data):
            header = {"type": kind, "flags": flags}  # by which `get` knows a dump's end
            if kind in (rt.RTM_NEWLINK, rt.RTM_DELLINK):
                if not nl.is_about_bridge_port(body):
                    yield {"header": header, "link": link_event(kind, body)}
            elif kind == NLMSG_DONE:
                yield {"header": header, "link": None}
            else:
                yield from super().parse(data, seq, callback, skip_alien_seq)
                return


class LinkEvents:
    """The node's links, told one by one."""

    def __init__(
        self,
        tell: Callable[[LinkEvent], None],
        begin: Callable[[list[LinkEvent]], None],
        trouble: Callable[[str], None],
    ) -> None:
        """`tell` is called with each message; `begin` with all links that there are, at the start
        and whenever messages may have been missed."""
        self._tell = tell
        self._begin = begin
        self._trouble = trouble

    async def run(self) -> None:
        """Listen for ever. What `tell` or `begin` raises ends it: a bug is no trouble with the
        kernel, and half of what they do may be undone."""
        async with aclosing(self._messages()) as messages:
            async for message in messages:
                if isinstance(message, LinkEvent):
                    self._tell(message)
                else:
                    self._begin(message)

    async def _messages(self) -> AsyncGenerator[LinkEvent | list[LinkEvent], None]:
        """All links, and then each message; again from the beginning after a failure. After an
        overflow pyroute2's socket is dead: make a new one."""
        while True:
            try:
                async with aclosing(self._listen()) as messages:
                    async for message in messages:
                        yield message
            except (OSError, NetlinkError) as error:
                if getattr(error, "errno", 0) == errno.ENOBUFS:
                    self._trouble("messages of the node's links were lost: all pods are looked at")
                    continue
                self._trouble(f"cannot hear of the node's links: {error}")
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _listen(self) -> AsyncGenerator[LinkEvent | list[LinkEvent], None]:
        links = AsyncIPRoute()
        try:
            links.set_marshal(_LinkMarshal())
            await links.bind(groups=RTMGRP_LINK)
            links.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
            yield [one["link"] async for one in await links.link("dump") if one["link"]]
            while True:
                async for one in links.get():
                    yield one["link"]
        finally:
            links.close()
