"""The lab's network namespaces, and the addresses in them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from cni_repair.demo.private import RUN
from cni_repair.netlink.netns import entered, open_netns, open_own

GATEWAY, GATEWAY6 = "10.9.0.1", "fd00:9::1"
SUBNET, SUBNET6 = "10.9.0.0/24", "fd00:9::/64"


@dataclass(frozen=True)
class Netns:
    """A network namespace with a name."""

    name: str

    @property
    def path(self) -> str:
        return f"{RUN}/netns/{self.name}"


@contextlib.contextmanager
def inside(path: str) -> Iterator[None]:
    """Have the calling thread in another network namespace, to open sockets there.

    A socket stays in the namespace in which it was made.
    """
    with ExitStack() as descriptors:
        home, target = open_own(), -1
        descriptors.callback(os.close, home)
        target = open_netns(path)
        descriptors.callback(os.close, target)
        with entered(target, home):
            yield
