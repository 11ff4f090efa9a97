"""Processes that share the work on many attachments: one for each processor, not for each pod.

The kernel makes links one at a time (RTNL), but most of a repair's time is our own: looking,
comparing, telling. Processes, since Python's threads take turns (GIL).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has none
import gc
import marshal
import os
import select

from cni_repair.base.closeable import Closeable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T", bound="Workers")

_LENGTH_BYTES = 4
_PIPE_BYTES = 1 << 16
_NUMBER_BYTES = 4
_STOPPING = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)


def _queue_of(numbers: Sequence[int]) -> tuple[int, int]:
    """A pipe's end from which each number can be read once, by whichever process; and how many
    have found room in it, 16,384 usually."""
    queue, fill = os.pipe()
    try:
        os.set_blocking(fill, False)
        data = b"".join(number.to_bytes(_NUMBER_BYTES, "big") for number in numbers)
        return queue, os.write(fill, data) // _NUMBER_BYTES
    except OSError:
        os.close(queue)
        raise
    finally:
        os.close(fill)  # so that it has an end


def _taken_from(queue: int) -> Iterator[int]:
    # (pipe_read() holds the pipe's lock, and it was filled by whole pages: no number is torn.)
    while number := os.read(queue, _NUMBER_BYTES):
        yield int.from_bytes(number, "big")


def _next_in(queue: int) -> int | None:
    """The next number in a queue that does not block; None where another one was quicker."""
    try:
        number = os.read(queue, _NUMBER_BYTES)
    except BlockingIOError:
        return None
    return int.from_bytes(number, "big") if number else None


class Workers(Closeable):
    """Context: processes that do the work together with this one; they have ended when it ends."""

    def __init__(
        self,
        count: int,
        numbers: Sequence[int],
        begin: Callable[[], None],
        work: Callable[[int], Any],
    ) -> None:
        """Each of `numbers` is taken by whoever is free next: by one of `count` other processes,
        which call `begin` first and then `work` with each, and whose results, which :mod:`marshal`
        must take, are read here; or by this one, from :meth:`mine`. A process that cannot be
        started takes none; one that dies leaves the one number undone that it had."""
        self._count = count
        self._numbers = numbers
        self._begin = begin
        self._work = work
        self._queue, self._queued = -1, 0
        self._processes: list[int] = []
        self._parts: dict[int, bytes] = {}  # of open pipes: what came, and is no whole result yet

    def __enter__(self: T) -> T:
        try:
            if self._count:
                self._queue, self._queued = self._new_queue()
            for _ in range(self._count):
                self._start()
        except OSError:
            pass  # no process, or no descriptor, is to be had
        except BaseException:
            self.close()
            raise
        return self

    def _new_queue(self) -> tuple[int, int]:
        return _queue_of(self._numbers)

    def mine(self) -> Iterator[int]:
        """What is for this process to do, number by number."""
        if self._queue >= 0:
            yield from _taken_from(self._queue)
        yield from self._numbers[self._queued :]

    def _start(self) -> None:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        self._parts[ours] = b""
        # A signal's exception between fork and `try` would make the child a second first process.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _STOPPING)
        try:
            process = os.fork()
            if process == 0:
                self._work_there(theirs, mask)
            self._processes.append(process)
        finally:
            os.close(theirs)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def _work_there(self, pipe: int, mask: Iterable[int]) -> NoReturn:
        """The other process's life. It says nothing but by its pipe: whatever goes wrong, what it
        has not done is found undone, and is told by who does it then."""
        try:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
            self._close_inherited()
            gc.disable()  # a collection would touch, and so copy, every page that the two share
            self._begin()
            for number in self._taken():
                data = marshal.dumps(self._work(number))
                message = len(data).to_bytes(_LENGTH_BYTES, "big") + data
                while message:
                    message = message[os.write(pipe, message) :]
        finally:
            os._exit(0)

    def _taken(self) -> Iterator[int]:
        return _taken_from(self._queue)

    def _close_inherited(self) -> None:
        """Who writes to one of these gets EPIPE once the first process has closed it."""
        for inherited in self._parts:
            os.close(inherited)

    def done(self) -> Iterator[Any]:
        """What was done since the last call; it does not wait."""
        for pipe in list(self._parts):
            yield from self._read(pipe)

    def rest(self) -> Iterator[Any]:
        """What is done from now on, as it comes, until all have ended."""
        while self._parts:
            poll = select.poll()
            for pipe in self._parts:
                poll.register(pipe, select.POLLIN)
            for pipe, _ in poll.poll():
                yield from self._read(pipe)

    def _read(self, pipe: int) -> Iterator[Any]:
        try:
            part = os.read(pipe, _PIPE_BYTES)
        except BlockingIOError:
            return
        if not part:
            del self._parts[pipe]
            os.close(pipe)
            return
        data = self._parts[pipe] + part
        start = 0
        while len(data) >= start + _LENGTH_BYTES:
            end = start + _LENGTH_BYTES + int.from_bytes(data[start : start + _LENGTH_BYTES], "big")
            if len(data) < end:
                break
            yield marshal.loads(data[start + _LENGTH_BYTES : end])
            start = end
        self._parts[pipe] = data[start:]

    def close(self) -> None:
        if self._queue >= 0:
            os.close(self._queue)
            self._queue = -1
        while self._parts:  # all of them first: whoever still writes gets EPIPE, and ends
            pipe, _ = self._parts.popitem()
            os.close(pipe)
        while self._processes:
            try:
                _, status = os.waitpid(self._processes.pop(), 0)
            except ChildProcessError:
                continue  # where SIGCHLD came ignored, the kernel has reaped it
            if os.WIFSIGNALED(status):
                _log_killed(os.WTERMSIG(status))


def _log_killed(number: int) -> None:
    """Nobody else notices: what the process had is done by another."""
    from cni_repair.base import log

    log.event("trouble", f"a process that repaired pods was killed by signal {number}")


class WaitingWorkers(Workers):
    """Context: as :class:`Workers`; the processes are there before anybody knows what to do. This
    one works with them while it takes their results: one that only waited would be one more to
    start, and on two processors in the others' way."""

    def __init__(self, count: int, begin: Callable[[], None], work: Callable[[int], Any]) -> None:
        super().__init__(count, (), begin, work)
        self._fill = -1  # the queue's other end: while it is open they wait there

    @property
    def are_there(self) -> bool:
        """Whether they all are, and can be given work."""
        return self._fill >= 0 and len(self._parts) == self._count

    def results(self, numbers: Sequence[int]) -> Iterator[Any]:
        """Have these worked on, and give what comes of each as it comes. Once one of the processes
        has died, the others end after that, and are given nothing any more."""
        if not self.are_there or not numbers:
            return
        data = b"".join(number.to_bytes(_NUMBER_BYTES, "big") for number in numbers)
        expected = os.write(self._fill, data) // _NUMBER_BYTES
        while expected > 0:
            if not self.are_there:
                self._end_queue()
            number = _next_in(self._queue)
            if number is None and not self._parts:
                return  # somebody had it who died
            for result in (*self._own(number), *self._others(number is None)):
                expected -= 1
                yield result

    def _own(self, number: int | None) -> Iterator[Any]:
        if number is not None:
            yield self._work(number)

    def _others(self, wait: bool) -> Iterator[Any]:
        poll = select.poll()
        for pipe in self._parts:
            poll.register(pipe, select.POLLIN)
        for pipe, _ in poll.poll(None if wait else 0):
            yield from self._read(pipe)

    def dismiss(self) -> None:
        """Have them end while this one goes on: there will be nothing more to do."""
        self._end_queue()

    def _new_queue(self) -> tuple[int, int]:
        queue, self._fill = os.pipe()
        for end in (queue, self._fill):
            os.set_blocking(end, False)
        return queue, 0

    def _taken(self) -> Iterator[int]:
        poll = select.poll()
        poll.register(self._queue, select.POLLIN)
        while poll.poll()[0][1] & select.POLLIN:  # else it has come to its end
            number = _next_in(self._queue)
            if number is not None:
                yield number

    def _close_inherited(self) -> None:
        super()._close_inherited()
        self._end_queue()  # else none would see the end of it

    def _end_queue(self) -> None:
        if self._fill >= 0:
            os.close(self._fill)
            self._fill = -1

    def close(self) -> None:
        self._end_queue()
        super().close()
