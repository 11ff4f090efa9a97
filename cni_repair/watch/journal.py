"""What happens, as lines of the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_repair.base import log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.watch.attachments import Attachment
    from cni_repair.watch.policy import Mode


def mode(before: Mode, now: Mode) -> None:
    """It heals again, or not any more, and why."""
    if now.heals and before.name:
        log.event("resumed", "pods are healed again")
    elif not now.heals:
        log.event("paused", f"no pod is healed: {now.reason}", REASON=now.reason)


def uplink_lost(name: str, count: int) -> None:
    pods = f"{count} attachment{'' if count == 1 else 's'}"
    log.event("uplink-lost", f"{name} is gone, and with it {pods}", MASTER=name, COUNT=count)


def uplink_back(name: str, seconds: float) -> None:
    log.event("uplink-back", f"{name} is back after {seconds:.3f} s", MASTER=name)


def armed(uplink: str, count: int, total: int) -> None:
    words = f"{count} of {total} pods over {uplink} are armed"
    log.event("armed", words, MASTER=uplink, COUNT=count)


def lost(gone: Iterable[Attachment]) -> None:
    for one in gone:
        of_one("lost", one, f"{one.title} is lost: {one.reason}")


def degraded(one: Attachment) -> None:
    of_one("degraded", one, f"{one.title} is degraded: {one.reason}")


def refused(one: Attachment) -> None:
    of_one("refused", one, f"{one.title} is {one.state}: {one.reason}")


def healed(one: Attachment, cause: str, outage_ms: int | None) -> None:
    after = "" if outage_ms is None else f" after {outage_ms} ms"
    of_one("healed", one, f"{one.title} is healed{after}", cause, outage_ms)


def kubelet(is_held: bool, words: str) -> None:
    log.event("held" if is_held else "released", words)


def of_one(
    kind: log.Kind, one: Attachment, message: str, cause: str = "", outage_ms: int | None = None
) -> None:
    """An event of one attachment."""
    log.event(
        kind,
        message,
        CNI_CONTAINERID=one.container_id,
        POD=one.pod,
        IFNAME=one.ifname,
        STATE=one.state,
        NETWORK=one.network,
        MASTER=one.chain[0] if one.chain else "",
        CAUSE=cause or one.cause,
        REASON=one.reason,
        OUTAGE_MS=outage_ms,
    )
