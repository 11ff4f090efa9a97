"""Holding the kubelet while pods are without their uplink (`holdKubelet: onLoss`).

With dockershim or cri-dockerd a kubelet that finds a pod without an address rebuilds it, about a
second after the loss. So it is stopped as soon as the loss is seen. What holds it, and what lets go
of it whatever becomes of us, is the upgrade's: systemd's mask, and a timer of systemd's own.

All of it is of this boot. What was held is written down before, for a watcher that is killed: the
next one goes on holding it, or releases it.
"""

from __future__ import annotations

import time

from cni_repair.base.errors import IO, CniError
from cni_repair.base.frozen import asdict, frozen
from cni_repair.base.procfs import boot_id
from cni_repair.upgrade import kubelet, lock
from cni_repair.upgrade.times import duration
from cni_repair.watch import rundir
from cni_repair.watch.settings import ON_LOSS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.watch.settings import Settings

NAME = "watch.kubelet"
_TIMER = "cni-repair-watch-deadman"
_INSTEAD = "say `holdKubelet: never`"


@frozen
class Held:
    """A kubelet that ran, and was stopped."""

    unit: str
    why: str
    since: float  # Unix time
    until: float  # seconds of the monotonic clock, by which systemd's timer goes, too


class Holder:
    """Holds and releases the node's kubelet. Each call may take as long as systemd does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def held(self) -> Held | None:
        """What is held, by us or by a watcher before us. Past its deadline it is no more: the timer
        has released it. Raises CniError where nobody can tell."""
        held = self._noted()
        return held if held and time.monotonic() < held.until else None

    @property
    def is_held(self) -> bool:
        return self.held is not None

    def hold(self, why: str) -> str:
        """Stop the kubelet and mask it, unless somebody else does; what was done, in words.

        Again is as good: what is held stays so until the first deadline. Raises CniError where it
        cannot be held; then it is released.
        """
        held = self.held or self._to_hold(why)
        if held is None:
            return ""
        try:
            self._note(held)
            # The timer is set before anything is held: there is no moment without one.
            seconds = max(1.0, held.until - time.monotonic())
            kubelet.arm(_found(held), seconds, f"{time.monotonic_ns()}", _TIMER)
            kubelet.hold(held.unit)
        except CniError as error:
            raise self._given_up(held, error) from error
        return (
            f"{held.unit} is masked and stopped until the pods are healed, for"
            f" {duration(seconds)} at most"
        )

    def release(self) -> str:
        """Make the kubelet what it was; what was done, in words: none where none was held.

        Raises CniError where it cannot be released; the timer will try again then.
        """
        held = self._noted()
        if held is None:
            return ""
        if time.monotonic() < held.until:
            self._release(held)
            return f"{held.unit} is unmasked and started"
        self._forget()
        return f"{held.unit} was released by its timer, at the deadline"

    def _to_hold(self, why: str) -> Held | None:
        """The kubelet, where it is to be held by us: an upgrade holds it itself, and one that is
        masked or does not run is as somebody wants it."""
        settings = self._settings
        if settings.hold_kubelet != ON_LOSS or lock.is_at_work():
            return None
        found = kubelet.find(settings.kubelet_unit, _INSTEAD)
        if found.masked or not found.active:
            return None
        until = time.monotonic() + settings.kubelet_deadline
        return Held(found.unit, why, time.time(), until)

    def _given_up(self, held: Held, error: CniError) -> CniError:
        """What could not be held is let go; the error that says so."""
        try:
            self._release(held)
        except CniError as another:
            words = f"{held.unit} cannot be held ({error}), and was not released as it should be"
            return CniError(another.code, words, str(another))
        return CniError(error.code, f"{held.unit} is not held, but released again", str(error))

    def _release(self, held: Held) -> None:
        kubelet.release(_found(held))
        self._forget()
        kubelet.disarm(timer=_TIMER)

    def _forget(self) -> None:
        rundir.remove(self._settings.run_dir, NAME)

    # --- the note --------------------------------------------------------------------------------

    def _note(self, held: Held) -> None:
        document = {"bootId": boot_id(), **asdict(held)}
        rundir.write(self._settings.run_dir, NAME, document)

    def _noted(self) -> Held | None:
        document = rundir.read(self._settings.run_dir, NAME)
        if document is None or document.get("bootId") != boot_id():
            return None
        try:
            return _held_of(document)
        except (KeyError, TypeError, ValueError) as error:
            path = f"{self._settings.run_dir}/{NAME}"
            raise CniError(IO, f"{path} names no kubelet", "remove it") from error


def _held_of(document: dict[str, Any]) -> Held:
    numbers = (float(document[key]) for key in ("since", "until"))
    return Held(str(document["unit"]), str(document["why"]), *numbers)


def _found(held: Held) -> kubelet.Found:
    return kubelet.Found(held.unit, active=True, masked=False)
