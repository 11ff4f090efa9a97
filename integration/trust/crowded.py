"""Many callers at once, an uplink that flaps, kill -9 for whoever it meets; and a witness."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cni_repair.base.errors import EXISTS, TRY_AGAIN
from cni_repair.demo.errors import LabError
from cni_repair.demo.lab import Lab, Netns, poll_until
from integration.product import command_here
from integration.trust.proof import Extent, Failure, Outcome
from integration.trust.watched.calls import Calls, Done, netconf_of, processes_on
from integration.trust.watched.leftovers import leases, leftovers
from integration.trust.watched.pods import Given, WholeState, given_by, whole_state
from integration.trust.watched.watchednode import Uplink, watcher_of
from integration.trust.watched.wire import Wire

NAME = "crowded"
WHAT = "callers of every verb on pods whose uplink flaps, kill -9 for callers and watcher"

_FULL_SECONDS = 600.0
_HEAL_SECONDS = 120.0
_MOST_FAILURES = 20
_KILLED, _KILL_WITHIN = 0.12, 0.6  # the share of calls that is, and within how many seconds
_FIRST_ADDRESS = 10


@dataclass(frozen=True)
class Scale:
    """How much of it."""

    pods: int
    callers: int
    seconds: float


def prove(extent: Extent) -> Outcome:
    """Ten minutes of it, or some seconds."""
    scale = Scale(100, 50, _FULL_SECONDS) if extent.full else Scale(12, 8, extent.seconds * 0.6)
    # Each ADD would wait for the kernel's detection for two seconds, and the rest be the same.
    with command_here() as command, Lab(command=command, detect_duplicates=False) as lab:
        crowd = Crowd(lab, scale, extent.seed)
        try:
            crowd.run()
        finally:
            crowd.end()
    failures = [one for one in crowd.failures if extent.case in (None, one.case)]
    return Outcome(sum(crowd.calls.values()), tuple(failures), tuple(crowd.figures()))


class _Gate:
    """A runtime calls GC while it calls neither ADD nor DEL (CNI SPEC 1.1, GC)."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._passing = 0
        self._is_closed = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: not self._is_closed)
            self._passing += 1
        try:
            yield
        finally:
            with self._free:
                self._passing -= 1
                self._free.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: not self._is_closed)
            self._is_closed = True
            self._free.wait_for(lambda: not self._passing)
        try:
            yield
        finally:
            with self._free:
                self._is_closed = False
                self._free.notify_all()


@dataclass
class _Place:
    """Where pods live one after the other; a runtime calls nothing for one pod twice at once."""

    number: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    pod: Netns | None = None
    given: Given | None = None  # what an ADD has acknowledged, until DEL is called
    result: dict[str, object] = field(default_factory=dict)
    state: WholeState | None = None  # as it was seen first
    generation: int = 0
    is_dead: bool = False  # its namespace is gone, and DEL has still to succeed


class Crowd:
    """The node, its callers, and what is done to them."""

    def __init__(self, lab: Lab, scale: Scale, seed: int) -> None:
        self._lab = lab
        self._scale = scale
        self._seed = seed
        self._places = [_Place(number) for number in range(scale.pods)]
        # None to spare: what is freed is given away again soon.
        self._last = _FIRST_ADDRESS + scale.pods - 1
        self._calls = Calls(lab, netconf_of(lab, self._last, masterTimeout=3))
        self._gate = _Gate()
        self._uplink = Uplink(lab)
        self._watcher = watcher_of(lab)
        self._over = threading.Event()
        self._lock = threading.Lock()  # of what follows
        self._owners: dict[str, str] = {}  # addresses that an ADD has acknowledged
        self.calls: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self._refused: Counter[str] = Counter()
        self._kills: Counter[str] = Counter()
        self._heard = self._speakers = 0
        self._began = time.monotonic()

    def run(self) -> None:
        self._add(self._places[0], doom=None)  # with it come the directories
        self._watcher.start()
        threads = [
            threading.Thread(target=self._guarded, args=(work, random.Random(self._seed + number)))
            for number, work in enumerate(
                [self._weather, self._reaper, *[self._caller] * self._scale.callers]
            )
        ]
        with Wire(self._lab, self._addresses()) as wire:
            for thread in threads:
                thread.start()
            self._over.wait(self._scale.seconds)
            self._over.set()
            for thread in threads:
                thread.join()
            self._conclude()
        for what in wire.speakers.twice:
            self._fail("no address twice on the wire", what)
        for what in wire.troubles:
            self._fail("the wire is read", what)
        self._heard, self._speakers = wire.speakers.heard, len(wire.speakers.owner)
        if not self._speakers:
            self._fail("the wire is read", "nobody spoke")

    def end(self) -> None:
        """Whatever happened: nothing of it goes on."""
        self._over.set()
        self._watcher.stop()

    def figures(self) -> Iterator[tuple[str, str]]:
        yield "calls", ", ".join(f"{count} {verb}" for verb, count in sorted(self.calls.items()))
        yield "refused", ", ".join(f"{n} {why}" for why, n in sorted(self._refused.items())) or "0"
        yield "kill -9", ", ".join(f"{count} {who}" for who, count in sorted(self._kills.items()))
        yield "uplink", f"{self._uplink.losses} losses"
        yield "wire", f"{self._heard} frames that claim an address, {self._speakers} addresses"

    def _addresses(self) -> list[str]:
        numbers = range(_FIRST_ADDRESS, self._last + 1)
        return [
            *(f"10.9.{number >> 8}.{number & 0xFF}" for number in numbers),
            *(f"fd00:9::{number:x}" for number in numbers if self._lab.ipv6),
        ]

    def _fail(self, case: str, saw: str) -> None:
        with self._lock:
            if len(self.failures) < _MOST_FAILURES:
                self.failures.append(Failure(case, saw))

    def _guarded(self, work: Callable[[random.Random], None], chance: random.Random) -> None:
        try:
            while not self._over.is_set():
                work(chance)
        except Exception as error:  # a thread that ends for itself would not be missed
            self._fail("the rig", repr(error))
            self._over.set()

    # --- What happens to them ---

    def _weather(self, chance: random.Random) -> None:
        # Now and then it is there for as long as a call may take beside fifty others.
        calm = 30.0 if self._scale.seconds > 60 and chance.random() < 0.2 else 6.0
        if not self._over.wait(chance.uniform(0.5, calm)):
            self._uplink.flap(chance.uniform(0.0, 1.5), by_cable=chance.random() < 0.2)

    def _reaper(self, chance: random.Random) -> None:
        if not self._over.wait(chance.uniform(1.0, 20.0 if self._scale.seconds > 60 else 4.0)):
            self._kills["watcher"] += 1
            self._watcher.kill()
            self._watcher.start()

    # --- A caller ---

    def _caller(self, chance: random.Random) -> None:
        # (Attaching and deleting are most of it: what is shared changes with each.)
        work = chance.choices(
            [self._one_place, self._repair, self._of_node, self._gc], [80, 12, 6, 2]
        )[0]
        work(chance)

    def _one_place(self, chance: random.Random) -> None:
        place = chance.choice(self._places)
        if not place.lock.acquire(blocking=False):
            return  # it has a caller
        try:
            if place.pod is None or (
                place.given is None and not place.is_dead and chance.random() < 0.3
            ):
                self._add(place, self._doom(chance))
            elif place.given is None or chance.random() < 0.5:
                self._delete(place, chance)
            else:
                self._check(place, chance)
        finally:
            place.lock.release()

    def _add(self, place: _Place, doom: float | None) -> None:
        with self._gate.passing():
            if place.pod is None:
                place.generation, place.is_dead = place.generation + 1, False
                name = f"{self._lab.node.name}-{place.number}-{place.generation}"
                place.pod = self._lab.add_pod(name)
            done = self._called("ADD", self._calls.plugin("ADD", place.pod, doom))
        if not done.ok:
            # (What a killed ADD has attached is attached.)
            is_rightly = done.is_killed or done.document.get("code") == EXISTS
            if not is_rightly and self._uplink.was_there(done.began - 1.0, done.ended):
                self._fail("ADD succeeds while the uplink is there", done.words)
            return  # the runtime calls DEL next, or tries again
        place.result = done.document
        place.given = given_by(place.result)
        place.state = None
        with self._lock:
            for address in place.given.bare:
                other = self._owners.setdefault(address, place.pod.name)
                if other != place.pod.name:
                    twice = f"{address} was given to {place.pod.name}, and is {other}'s"
                    self.failures.append(Failure("no address is given twice", twice))

    def _delete(self, place: _Place, chance: random.Random) -> None:
        assert place.pod is not None
        self._disown(place)
        if chance.random() < 0.1:  # the pod's processes have ended before
            self._lab.remove([place.pod])
            place.is_dead = True
        with self._gate.passing():
            done = self._called("DEL", self._calls.plugin("DEL", place.pod, self._doom(chance)))
        if done.ok:
            self._lab.remove([place.pod])
            place.pod = None
        elif not done.is_killed and done.document.get("code") != TRY_AGAIN:
            self._fail("DEL succeeds", done.words)

    def _disown(self, place: _Place) -> None:
        with self._lock:
            for address in place.given.bare if place.given else ():
                self._owners.pop(address, None)
        place.given = None

    def _check(self, place: _Place, chance: random.Random) -> None:
        assert place.pod is not None and place.given is not None
        changes = {"prevResult": place.result}
        self._called("CHECK", self._calls.plugin("CHECK", place.pod, self._doom(chance), **changes))
        given = leases(self._lab)
        for address in place.given.bare:
            if given.get(address) != place.pod.name:
                saw = f"{address} of {place.pod.name} is {given.get(address)}'s for host-local"
                self._fail("a pod's address is its own", saw)
        state = whole_state(place.pod)
        if state is not None and place.state is None:
            place.state = state

    def _repair(self, chance: random.Random) -> None:
        pod = chance.choice(self._places).pod  # whoever calls it asks no runtime
        self._called("REPAIR", self._calls.plugin("REPAIR", pod, self._doom(chance)))

    def _of_node(self, chance: random.Random) -> None:
        words = chance.choice([("snapshot",), ("repair", "--all"), ("status",), ("plan",)])
        self._called(words[0], self._calls.command(*words, kill_after=self._doom(chance)))

    def _gc(self, chance: random.Random) -> None:
        with self._gate.alone():
            valid = [one for one in self._places if one.given is not None]
            unsure = [one for one in self._places if one.given is None and one.pod is not None]
            attachments = [
                {"containerID": one.pod.name, "ifname": "eth0"} for one in valid if one.pod
            ]
            changes = {"cni.dev/valid-attachments": attachments}
            done = self._called("GC", self._calls.plugin("GC", None, self._doom(chance), **changes))
            if not done.ok and not done.is_killed:
                self._fail("GC succeeds", done.words)
            if done.ok:
                there = leases(self._lab).values()
                for one in unsure:
                    if one.pod and one.pod.name in there:
                        self._fail("GC frees", f"{one.pod.name} has an address still")

    def _doom(self, chance: random.Random) -> float | None:
        """When the call is killed; None: it is not."""
        return chance.random() * _KILL_WITHIN if chance.random() < _KILLED else None

    def _called(self, verb: str, done: Done) -> Done:
        with self._lock:
            self.calls[verb] += 1
            if done.is_killed:
                self._kills["calls"] += 1
            elif not done.ok:
                self._refused[f"{verb} ({done.document.get('code', 'damage')})"] += 1
        if done.fault:
            self._fail("an answer is one document", done.fault)
        return done

    # --- The end ---

    def _conclude(self) -> None:
        try:
            self._conclude_or_wait()
        except LabError as error:
            self._fail("all are well at the end", f"{error}; {self._unwell()[:5]}")

    def _conclude_or_wait(self) -> None:
        poll_until(lambda: not self._unwell(), _HEAL_SECONDS, "all pods to be as ADD has made them")
        self._watcher.stop()
        for place in self._places:
            if place.pod is not None and place.given is None:
                self._delete_at_last(place)
        poll_until(lambda: not processes_on(self._lab), _HEAL_SECONDS, "all processes to end")
        self._expect_nothing_beyond("acknowledged pods")
        for place in self._places:
            if place.pod is not None:
                self._delete_at_last(place)
        self._expect_nothing_beyond("none")

    def _unwell(self) -> list[str]:
        found = []
        for place in self._places:
            if place.pod is not None and place.given is not None:
                state = whole_state(place.pod)
                why = place.given.differs(state)
                if not why and place.state is not None and state != place.state:
                    why = f"{state} for {place.state}"
                if why:
                    found.append(f"{place.pod.name}: {why}")
        return found

    def _delete_at_last(self, place: _Place) -> None:
        assert place.pod is not None
        self._disown(place)
        done = self._called("DEL", self._calls.plugin("DEL", place.pod))
        if not done.ok:
            self._fail("DEL succeeds", done.words)
        self._lab.remove([place.pod])
        place.pod = None

    def _expect_nothing_beyond(self, what: str) -> None:
        pods = {
            place.pod.name: place.given.bare
            for place in self._places
            if place.pod is not None and place.given is not None
        }
        for left in leftovers(self._lab, pods):
            self._fail(f"nothing is left beyond {what}", left)
