"""What the daemon hears of the node's links, from the kernel."""

from __future__ import annotations

import asyncio
import errno
from typing import NoReturn

import pytest

from cni_repair.watch.events import LinkEvent, LinkEvents
from tests.netns.rig import HANG_SECONDS, Rig


def test_a_port_that_leaves_its_bridge_is_not_gone(rig: Rig) -> None:
    """The kernel says so by an RTM_DELLINK with the port's name. (Pods may be over its VLANs.)"""
    heard: list[LinkEvent] = []
    rig.ip("link add br0 type bridge")
    rig.ip("link add port type veth peer name beyond")
    rig.ip("link set port up master br0")

    async def listen() -> None:
        is_over = asyncio.Event()

        def tell(event: LinkEvent) -> None:
            heard.append(event)
            if event.gone and "eth0" in event.names:
                is_over.set()

        def begin(links: list[LinkEvent]) -> None:
            assert any("port" in link.names for link in links)
            rig.ip("link set port nomaster")
            rig.uplink_down()

        events = asyncio.create_task(LinkEvents(tell, begin, print).run())
        await asyncio.wait_for(is_over.wait(), HANG_SECONDS)
        events.cancel()

    rig.inside(None, lambda: asyncio.run(listen()))
    gone = [name for event in heard if event.gone for name in event.names]
    assert "port" not in gone
    assert gone.count("eth0") == 1


@pytest.mark.parametrize("at", ["the beginning", "a message"])
def test_an_error_of_who_is_told_is_not_the_kernels(rig: Rig, at: str) -> None:
    """Listening anew would hide it, and go on with half of it done."""
    troubles: list[str] = []

    def fail(_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    def begin(links: list[LinkEvent]) -> None:
        if at == "the beginning":
            fail(links)
        rig.uplink_down()

    events = LinkEvents(fail, begin, troubles.append)
    with pytest.raises(OSError, match="Too many open files"):
        rig.inside(None, lambda: asyncio.run(asyncio.wait_for(events.run(), HANG_SECONDS)))
    assert troubles == []
