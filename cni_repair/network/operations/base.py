"""What every step of a repair is: a frozen value that says the command that it equals, and makes
its own netlink messages.

Nothing here does I/O. Whoever applies a plan (network/apply.py in a pod, uplink/apply.py in the
node) knows no kinds of steps: what is special about one is data, below.
"""

from __future__ import annotations

import errno

from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from cni_repair.netlink.codec import Message

    class Creation(Protocol):
        """How the pod's interface is made, where one message cannot do it in its place. (That one
        goes through a socket of the node, as these do.)"""

        @property
        def ifname(self) -> str: ...
        @property
        def ifindex(self) -> int: ...  # 0: the kernel chooses
        def temporary(self, name: str, master: int) -> Message: ...
        def move(self, ifindex: int, netns: int) -> Message: ...


_EXISTS = frozenset({errno.EEXIST})


@frozen
class Target:
    """What messages need to know that only the moment tells (indices and ids)."""

    ifindex: int  # of the link that the step is about
    master: int  # of the node's link below it
    netns: int = -1  # an open descriptor of the pod's namespace, to make a link in it
    links: tuple[tuple[str, int], ...] = ()  # the pod's other links that its routes go through


class Operation:
    """One step. What comes of it is for the look afterwards to say.

    More than twelve methods: the three that every step has, and what is special about some, which
    would otherwise be a question for each one's class.
    """

    def describe(self, netns: str) -> str:
        """The `ip` or `sysctl` command that it equals, for a namespace's path (empty: the node)."""
        raise NotImplementedError

    def requests(self, target: Target) -> list[Message]:
        """Its messages, to be sent through a socket of the namespace that it works in."""
        raise NotImplementedError

    @property
    def tolerated(self) -> frozenset[int]:
        """Refusals that mean "already so": by a quicker hand, or a Result names it twice."""
        return _EXISTS

    if TYPE_CHECKING:

        @property
        def ifname(self) -> str:
            """The link that it is about."""
            raise NotImplementedError

    # What else is special about some

    @property
    def over(self) -> str:
        """The link of the node on which it puts the one that it makes; empty if it makes none."""
        return ""

    @property
    def unsupported(self) -> tuple[str, str] | None:
        """What EOPNOTSUPP means: what this kernel cannot do, and what to do about it."""
        return None

    @property
    def meanings(self) -> Mapping[int, str]:
        """What a refusal means here, where the kernel's own words do not say it."""
        return {}

    @property
    def is_vital(self) -> bool:
        """Whether without it all that comes after it is in vain."""
        return False

    @property
    def is_proved(self) -> bool:
        """Whether the kernel's acknowledgement proves that it is so; what older kernels ignore, or
        begin and end later, only a look can tell."""
        return False

    @property
    def comes_alone(self) -> bool:
        """Whether all that came before must have been done, repeated tries, too."""
        return False

    @property
    def flushes_neighbours_of(self) -> str:
        """The link whose neighbours the kernel forgets with it, permanent ones, too; else empty."""
        return ""

    @property
    def steps(self) -> Sequence[Operation]:
        """Itself; or the steps that it consists of, each with its own answer."""
        return (self,)

    @property
    def otherwise(self) -> Operation | None:
        """What to do instead where its place is taken (EEXIST)."""
        return None

    @property
    def creation(self) -> Creation | None:
        """How to make the interface, for the step that does."""
        return None

    @property
    def file(self) -> tuple[str, str, str] | None:
        """What goes into a file instead of a message: the sysctl's key, its link, the value."""
        return None
