"""The rig that feeds readers (integration/trust/fed): it sees what must not come of an input."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

import pytest

from integration.errors import RigError
from integration.trust import fed
from integration.trust.fed import feeding
from integration.trust.fed.feeding import READERS, Fault, Judge, feed
from integration.trust.fed.minimise import minimised
from integration.trust.fed.mutation import Mutator
from integration.trust.fed.reader import Form, Odd, Question, Reader
from integration.trust.proof import Extent, Failure

FOREVER = float("inf")


def reader(read: Callable[[bytes], list[Question]]) -> Reader:
    return Reader("made-up", "for a test", Form.BYTES, read, (ValueError,), 1)


def judged(read: Callable[[bytes], list[Question]], *inputs: bytes) -> feeding.Tally:
    judge = Judge(reader(read), None)
    for data in inputs:
        judge.try_(data)
    return judge.tally


# --- what must not come of an input ---------------------------------------------------------------


def test_accepted_or_refused_as_declared_is_no_fault() -> None:
    def read(data: bytes) -> list[Question]:
        data.decode("ascii")  # UnicodeDecodeError is a ValueError
        return []

    tally = judged(read, b"a", b"\xff")
    assert (tally.tried, tally.accepted, tally.faults) == (2, 1, {})


@pytest.mark.parametrize("error", [KeyError("x"), Odd("x"), RecursionError("x")], ids=repr)
def test_any_other_exception_is_a_fault_of_the_shortest_input(error: Exception) -> None:
    def read(data: bytes) -> list[Question]:
        raise error

    (fault,) = judged(read, b"long", b"a", b"longer").faults.values()
    assert fault.data == b"a"
    assert type(error).__name__ in fault.saw


def test_what_takes_long_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes) -> list[Question]:
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass
        return []

    assert judged(read, b"a").faults == {}
    monkeypatch.setattr(feeding, "SLOW_SECONDS", 0.01)
    (fault,) = judged(read, b"a").faults.values()
    assert fault.kind == "slow"


@pytest.mark.parametrize(
    ("answer", "may_refuse", "complaint"),
    [
        ({"error": "", "same": True}, False, ""),
        ({"error": "", "same": False}, False, "read otherwise"),
        ({"error": "bad", "same": False}, False, "accepted, and Go refuses it: bad"),
        ({"error": "bad", "same": False}, True, ""),
    ],
    ids=str,
)
def test_what_go_says(answer: dict[str, object], may_refuse: bool, complaint: str) -> None:
    assert Question("J", b"", may_refuse=may_refuse).complaint(answer) == complaint


# --- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
def test_corpus_of_each_reader_is_read(name: str) -> None:
    """And at least one of it is accepted: else its mutations would show little."""
    fed_with_corpus = feed(name, 1, 0, 0, FOREVER, None)
    assert fed_with_corpus.faults == {}
    assert fed_with_corpus.tried == len(READERS[name].seeds())
    assert fed_with_corpus.accepted > 0


@pytest.mark.parametrize("form", Form)
def test_same_seed_makes_the_same_inputs(form: Form) -> None:
    seeds = [b'{"type": "a", "ips": [{"k": 1}]}', b"x: y\n"]

    def made(seed: int) -> list[bytes]:
        mutator = Mutator(Random(seed), seeds, form, ("word",))
        return [mutator.next() for _ in range(200)]

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert len(set(made(1))) > 100


def test_input_is_made_small() -> None:
    fault = judged_netconf(b'{"cniVersion": "1.0.0", "name": "n", "type": "t", "a": "0123456789"}')
    assert minimised(fault, None).data == b'""'


def judged_netconf(data: bytes) -> Fault:
    """A fault of a reader that the test has put among the real ones."""

    def read(data: bytes) -> list[Question]:
        if data.count(b'"') >= 2:
            raise KeyError("quoted")
        return []

    READERS["made-up"] = reader(read)
    judge = Judge(READERS["made-up"], None)
    judge.try_(data)
    (fault,) = judge.tally.faults.values()
    return fault


# --- the proof ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def only_real_readers() -> object:
    yield
    READERS.pop("made-up", None)


@pytest.fixture
def without_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fed, "_go_program", lambda: (None, "left out: a test"))


@pytest.mark.usefixtures("without_go")
def test_case_plays_the_input_that_a_failure_names() -> None:
    fault = judged_netconf(b'x"y"\x00')
    named = fed._failure(fault)
    (again,) = fed.prove(Extent(case=named.case)).failures
    assert again == named
    assert again.case == again.case.strip()
    READERS["made-up"] = reader(lambda data: [])
    assert fed.prove(Extent(case=named.case)).failures == ()


@pytest.mark.usefixtures("without_go")
@pytest.mark.parametrize("case", ["nobody:x", "netconf", "netconf:~", "netconf:abc"])
def test_case_that_names_no_input_is_told(case: str) -> None:
    with pytest.raises(RigError, match="--case"):
        fed.prove(Extent(case=case))


def test_failure_is_a_line() -> None:
    made = fed._failure(Fault("netconf", "k", "KeyError: 'a'", b"\n" * 500))
    assert isinstance(made, Failure)
    assert "\n" not in made.case + made.saw
