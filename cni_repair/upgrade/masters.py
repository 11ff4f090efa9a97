"""Waiting for the uplinks after the driver's return."""

from __future__ import annotations

import time

from cni_repair.errors import CniError
from cni_repair.network.observe import link_named
from cni_repair.network.plan import READY
from cni_repair.node import parents
from cni_repair.node.look import wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.network.rtnetlink import Rtnetlink
    from cni_repair.network.state import HostLink

_POLL_SECONDS = 0.05

Uplink = tuple["HostLink", bool]  # a card or bond as recorded, and whether to follow its new name


def uplinks_of(checkpoints: list[Checkpoint]) -> list[Uplink]:
    """What the attachments stand on in the end, each once."""
    found = [
        (one.attachment.parents[-1], one.attachment.follow_renamed_master) for one in checkpoints
    ]
    return list(dict.fromkeys(found))


def stacked_names(checkpoints: list[Checkpoint]) -> set[str]:
    """The names of all links of the node that attachments stand on."""
    return {link.name for one in checkpoints for link in one.attachment.parents}


def wait(
    rtnl: Rtnetlink,
    names: tuple[str, ...],
    uplinks: list[Uplink],
    carrier: bool,
    seconds: float,
    back: Callable[[str], None],
) -> list[str]:
    """Wait until every uplink is there (with `carrier`: up and heard); why each other is not.

    `names`, where there are any, are waited for instead of `uplinks`. `back` is told of each.
    """
    until = time.monotonic() + seconds
    waiting: dict[str, Callable[[], str]] = {
        name: _by_name(rtnl, name, carrier) for name in names
    } or {link.name: _as_recorded(rtnl, link, follow, carrier) for link, follow in uplinks}
    while True:
        away = {name: _asked(why_not) for name, why_not in waiting.items()}
        for name in [name for name, why in away.items() if not why]:
            del waiting[name], away[name]
            back(name)
        if not waiting or time.monotonic() >= until:
            return list(away.values())
        time.sleep(_POLL_SECONDS)


def _asked(why_not: Callable[[], str]) -> str:
    """A kernel that is too busy to answer while a driver comes up is asked again."""
    try:
        return why_not()
    except (CniError, OSError) as error:
        return str(wrapped(error))


def _by_name(rtnl: Rtnetlink, name: str, carrier: bool) -> Callable[[], str]:
    return lambda: _why_not(name, link_named(rtnl, name), carrier)


def _as_recorded(rtnl: Rtnetlink, card: HostLink, follow: bool, carrier: bool) -> Callable[[], str]:
    def why_not() -> str:
        plan, link = parents.look(rtnl, (card,), follow)
        # Another card of that name is none of ours; names may be still in the making.
        return _why_not(card.name, link, carrier) if plan.state == READY else plan.reason

    return why_not


def _why_not(name: str, link: HostLink | None, carrier: bool) -> str:
    """Why a link cannot be used (yet); empty where it can."""
    if link is None:
        return f"{name} does not exist"
    if link.carrier or not carrier:
        return ""
    return f"{name} has no carrier" if link.up else f"{name} is down: ip link set dev {name} up"
