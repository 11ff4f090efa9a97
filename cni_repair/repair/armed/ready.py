"""Attachments that are armed, and the processes that fire them."""

from __future__ import annotations

from cni_repair.base.closeable import Closeable
from cni_repair.repair.armed.firing import DONE, NOT_DONE, Turn
from cni_repair.repair.workers import WaitingWorkers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from cni_repair.repair.armed.firing import ArmedPod, Firing, Shot
    from cni_repair.uplink.ensure import Parents

_LOOKED_AT = 3
# Attachments that are fired together, and into how many such parts at least each process's share is
# cut.
_MOST_AT_ONCE = 32
_FIRST_AT_ONCE = 8  # the kernel, which has nothing to do yet, does not wait long for the first ones
_SHARES = 3
_COUNT_BITS = 8
_AFTER_ANOTHER = NOT_DONE, False, "another interface of its pod was not done"
# Who had it died: what was made of it besides the link a look has to tell.
_UNKNOWN = DONE, False, ""
_NOT_MADE = NOT_DONE, False, "who was to do it was killed"


class Armed(Closeable):
    """Attachments that are ready to be fired, each once; by this process and `others`, where they
    are worth it. Context: these end with it."""

    def __init__(
        self,
        firing: Firing,
        pods: Sequence[Sequence[ArmedPod]],
        chains: Mapping[int, Parents],
        refused: Mapping[str, int],
        others: int = 0,
    ) -> None:
        """`pods`: the attachments of each, in their order."""
        self.chains = chains
        self.refused = {**refused}  # how many are not armed, by the reason
        self.missed: dict[str, int] = {}  # how many were not done when they were fired, likewise
        self._is_started = False
        self._firing = firing
        self._pods = pods
        self._ready = {pod[0].file: number for number, pod in enumerate(pods)}
        self._by_file = {one.file: one for pod in pods for one in pod}
        self._turn = Turn(len(pods))
        self._processes = 1 + others
        self._workers = WaitingWorkers(others, firing.begin_in_child, self._fire_range)

    def start(self) -> None:
        """Have the other processes there, so that firing need not wait for them."""
        if not self._is_started:
            self._is_started = True
            self._workers.__enter__()

    @property
    def count(self) -> int:
        """How many attachments are armed, and not fired yet."""
        return sum(len(self._pods[number]) for number in self._ready.values())

    def find(self, file: str) -> ArmedPod | None:
        """The armed attachment of that record."""
        return self._by_file.get(file)

    def chains_of(self, files: Sequence[str]) -> list[int]:
        """What those of these attachments stand on which are not fired yet."""
        ready = [self._pods[self._ready[file]] for file in files if file in self._ready]
        return [*dict.fromkeys(one.chain for pod in ready for one in pod)]

    def was_lost(self, chain: int) -> bool:
        """Whether the pods over a master lost their interfaces with it: where a few have theirs,
        the others are not worth a shot each. (Not the first few: these may have been repaired
        before somebody was killed, or be of one owner, who has put something in their place.)"""
        over = [one for one in self._by_file.values() if one.chain == chain]
        step = max(1, len(over) // _LOOKED_AT)
        return any(map(self._firing.is_lost, over[::-step][:_LOOKED_AT]))

    def run_dir_of(self, chain: int) -> str:
        """Where the lock is for what these stand on."""
        return next(one.run_dir for one in self._by_file.values() if one.chain == chain)

    def fire(
        self, files: Sequence[str], masters: Mapping[int, int]
    ) -> Iterator[tuple[ArmedPod, Shot]]:
        """Fire the pods of these attachments whose masters are all there, given by their chains'
        places; what came of each. A pod of which another attachment is not meant is left alone."""
        meant = {*files}
        numbers = [
            number
            for file, number in self._ready.items()
            if file in meant
            and all(one.chain in masters and one.file in meant for one in self._pods[number])
        ]
        for chain, ifindex in masters.items():
            self._turn.note(ifindex, chain)
        for number in numbers:
            del self._ready[self._pods[number][0].file]
        unknown = dict.fromkeys(numbers)
        for number, shots in self._results(numbers):
            del unknown[number]
            if not unknown and not self._ready:
                self._workers.dismiss()
            yield from zip(self._pods[number], shots)
        made = self._turn.made() if unknown else b""
        for number in unknown:
            for turn, one in enumerate(self._pods[number]):
                yield one, _UNKNOWN if turn < made[number] else _NOT_MADE

    def _results(self, numbers: list[int]) -> Iterator[Any]:
        share = len(numbers) // (_SHARES * self._processes)
        ranges = _ranges(numbers, min(_MOST_AT_ONCE, max(1, share)))
        work = self._workers.results if self._workers.are_there else _each(self._fire_range)
        for results in work(ranges):
            yield from results

    def _fire_range(self, coded: int) -> Any:
        """Pods one after the other: (number, shots) of each. Of a pod with several interfaces all
        first ones, then all second ones; nothing after one that was not done: of its default routes
        the first counts."""
        first, count = divmod(coded, 1 << _COUNT_BITS)
        pods = self._pods[first : first + count]
        masters = self._turn.noted()
        shots: list[list[Shot]] = [[] for _ in pods]
        counts = bytearray(count)
        for turn in range(max(map(len, pods))):
            places = [place for place, pod in enumerate(pods) if len(pod) > turn]
            on = [place for place in places if not turn or shots[place][-1][0] != NOT_DONE]
            wanted = [(pods[place][turn], masters[pods[place][turn].chain]) for place in on]

            def made(are_on: list[bool], on: list[int] = on) -> None:
                for place, is_on in zip(on, are_on):
                    counts[place] += is_on
                self._turn.note_made(first, bytes(counts))

            fired = dict(zip(on, self._firing.fire(wanted, self._turn, made)))
            for place in places:
                shots[place].append(fired.get(place, _AFTER_ANOTHER))
        return [*zip(range(first, first + count), shots)]

    def close(self) -> None:
        self._workers.close()
        self._turn.close()


def _each(work: Callable[[int], Any]) -> Callable[[list[int]], Iterator[Any]]:
    return lambda numbers: map(work, numbers)


def _ranges(numbers: list[int], most: int) -> list[int]:
    """Numbers in their order as ranges: first and count, in one number. The first is short, each
    may be twice as long as the one before, up to `most`."""
    ranges: list[tuple[int, int]] = []
    longest = _FIRST_AT_ONCE // 2
    for number in numbers:
        first, count = ranges[-1] if ranges else (0, 0)
        if ranges and number == first + count and count < min(longest, most):
            ranges[-1] = first, count + 1
        else:
            ranges.append((number, 1))
            longest *= 2
    return [first << _COUNT_BITS | count for first, count in ranges]
