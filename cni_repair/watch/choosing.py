"""Which pods are to be healed, together with which others, and how soon."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cni_repair.base.errors import REFUSALS, REPAIR_FAILED
from cni_repair.watch.policy import DRIFT, is_wanted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cni_repair.watch.attachments import Attachment, Attachments, Place
    from cni_repair.watch.policy import Restraint

# What the same attempt would come to again: it was not safe, or the kernel has said no to a step.
_FINAL = REFUSALS | {REPAIR_FAILED}


class Group(NamedTuple):
    """What one task heals."""

    directory: str
    uplink: str  # all that stands on it; empty: some, whose uplink is there
    file: str = ""  # the one that it is for, where with others it may have ended their task


class Choosing:
    """The choice, by how the attachments are and by what became of the last attempts.

    At first all over an uplink are healed together. What a heal leaves damaged is tried again by
    itself, so that it does not count against its uplink, which may be lost again at any time.
    """

    def __init__(self, attachments: Attachments, restraint: Restraint) -> None:
        self._attachments = attachments
        self._restraint = restraint
        self._tried: set[Place] = set()  # with all of their uplink, since they were last well
        self._failures: Counter[Group] = Counter()  # tasks that did not end well, in a row
        self.suspects: set[Place] = set()  # what may have ended them: each is healed alone

    def lost(self, uplink: str, gone: Iterable[Attachment], now: float) -> None:
        """These stand on a link that is gone: another loss than the last one, and whatever a repair
        has refused may be otherwise."""
        self._restraint.uplink_lost(uplink, now)
        for one in gone:
            self._tried.discard(one.place)
            self.suspects.discard(one.place)
            self._restraint.reconsider(one.place)

    def groups(
        self, heal: str, busy: Collection[Place], away: Collection[str]
    ) -> dict[Group, set[Place]]:
        """What is to be healed by that setting, but what is `busy`; not yet without their uplink
        those that are not healed with all of it."""
        found: dict[Group, set[Place]] = {}
        for one in self._attachments:
            if not one.is_damaged:
                self._tried.discard(one.place)
                self.suspects.discard(one.place)
            # An interrupted heal may have left one that is well in need of its last step.
            wanted = one.unverified or is_wanted(heal, one.cause, one.state)
            if wanted and one.place not in busy and not self.why_refused(one):
                group = self._group_of(one)
                if group.uplink or one.uplink not in away:
                    found.setdefault(group, set()).add(one.place)
        return found

    def _group_of(self, one: Attachment) -> Group:
        directory, file = one.place
        if one.place in self.suspects:
            return Group(directory, "", file)
        if not one.is_damaged or one.cause == DRIFT or one.place in self._tried:
            return Group(directory, "")
        return Group(directory, one.uplink)

    def ready(self, group: Group, places: set[Place], now: float) -> tuple[set[Place], float]:
        """Those of a group that may be healed now, and the seconds until others may; 0: none."""
        if group.uplink:
            wait = self._restraint.may_heal(group.uplink, now)
            return (set() if wait else places), wait
        waits = {place: self._restraint.may_heal(_name(place), now) for place in places}
        ready = {place for place, seconds in waits.items() if not seconds}
        return ready, min((seconds for seconds in waits.values() if seconds), default=0.0)

    # --- What became of it ---

    def begun(self, group: Group, places: Iterable[Place], now: float) -> None:
        """A heal has come so far that something is changed."""
        for name in [group.uplink] if group.uplink else map(_name, places):
            self._restraint.healed(name, now)

    def ended(self, group: Group) -> None:
        self._failures.pop(group, None)

    def failed(
        self, group: Group, places: Iterable[Place], now: float, culprit: Place | None = None
    ) -> None:
        """A task did not end well: try again later; after the second time each on its own, since
        one of them may be what ends their task. Where the culprit is known, it alone is left out,
        and the others are tried again at once."""
        if culprit is not None:
            self.suspects.add(culprit)
            return
        self.begun(group, places, now)
        self._failures[group] += 1
        if self._failures[group] > 1:
            self.suspects.update(places)
            self.ended(group)

    def not_healed(self, one: Attachment, code: int) -> None:
        """A repair has left it damaged: it is tried again later, or where that would come to the
        same, not before something about it has changed."""
        self._tried.add(one.place)
        if code in _FINAL:
            self._restraint.refused(one.place, one.mark, one.reason)

    def looked(self, one: Attachment) -> None:
        """A look has seen it."""
        self._restraint.looked(one.place, one.mark, one.seen)

    def forget(self, place: Place) -> None:
        """It is no more."""
        self._tried.discard(place)
        self.suspects.discard(place)
        self._restraint.forget(place, _name(place))

    def why_refused(self, one: Attachment) -> str:
        """Why it is not tried again until something about it changes; empty where it is."""
        return self._restraint.why_not(one.place, one.mark, one.seen)


def are_left(attachments: Attachments, choosing: Choosing) -> bool:
    """Whether some that were lost are still to be healed. (Refused ones are not: the kubelet is not
    held for them, whose pods it would rightly make anew.)"""
    return any(
        one.is_damaged and one.cause != DRIFT and not choosing.why_refused(one)
        for one in attachments
    )


def left_out(attachments: Attachments, choosing: Choosing, group: Group) -> list[str]:
    """The files of the directory that the group's task is not to touch."""
    return [
        one.place.file
        for one in attachments
        if one.place.directory == group.directory
        and (choosing.why_refused(one) or (group.uplink and one.place in choosing.suspects))
    ]


def _name(place: Place) -> str:
    """What restraint knows one by that is tried by itself. (No link's name has a slash.)"""
    return f"{place.directory}/{place.file}"
