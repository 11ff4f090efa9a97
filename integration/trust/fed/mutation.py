"""Inputs made of a corpus: changed in their bytes and, where they have one, in their structure.

The same seed makes the same inputs, on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from integration.trust.fed.reader import Form

MOST_BYTES = 1 << 16
# One of so many inputs is made long: what takes time that grows faster than the input shows then.
_ONE_LONG_OF = 4000
_LONGEST = 1 << 20
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 256, 65536, 2**31, 2**32, 2**53 + 1, 2**64, 10**309, 1.5,
    1e308, -0.0, "", "a", "..", "../x", "a/b", "eth0", "lo", "10.9.0.5/24", "fd00::5/64", "::/0",
    "0.0.0.0/0", "10.9.0.1", "fd00::1", "02:00:00:00:00:05", "x" * 300, "\0", "\n", "\x1b[2J",
    "\ud800", "\u212a", "cni-repair", "macvlan", "host-local", "1.0.0", "0.2.0", [], {}, [[]],
    [None], [""], [{}], {"type": "host-local"}, {"TYPE": "x"}, {"": 1},
)  # fmt: skip
_AS_GO_FOLDS = str.maketrans({"k": "\u212a", "s": "\u017f"})


class Mutator:
    """Makes one input after the other."""

    def __init__(self, random: Random, seeds: list[bytes], form: Form, words: tuple[str, ...]):
        self._random = random
        self._seeds = seeds
        self._form = form
        self._words = [word.encode("utf-8", "surrogateescape") for word in words]
        self._values = [value for seed in seeds for value in _values_in(seed)]

    def next(self) -> bytes:
        random = self._random
        if self._form is Form.JSON and self._values and random.random() < 0.6:
            made = self._structured()
            if random.random() < 0.7:
                return made
        else:
            made = random.choice(self._seeds)
        for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
            made = self._changed(made)
        if random.randrange(_ONE_LONG_OF) == 0:
            return self._long(made)
        return made[:MOST_BYTES]

    # By structure

    def _structured(self) -> bytes:
        random = self._random
        value = random.choice(self._values)
        for _ in range(random.choice((1, 1, 2, 3))):
            value = self._with_change(value)
        text = json.dumps(value, ensure_ascii=random.random() < 0.5)
        return text.encode("utf-8", "surrogatepass")

    def _with_change(self, value: Any) -> Any:
        """A value with something else at one place in it."""
        random = self._random
        if isinstance(value, dict) and value and random.random() < 0.85:
            key = random.choice(list(value))
            way = random.random()
            if way < 0.55:
                return {**value, key: self._with_change(value[key])}
            if way < 0.7:
                return {self._other_key(k) if k == key else k: v for k, v in value.items()}
            if way < 0.8:
                return {k: v for k, v in value.items() if k != key}
            return {**value, self._other_key(key): self._any_value()}
        if isinstance(value, list) and value and random.random() < 0.85:
            place = random.randrange(len(value))
            way = random.random()
            if way < 0.7:
                return [*value[:place], self._with_change(value[place]), *value[place + 1 :]]
            return value[:place] + value[place + 1 :] if way < 0.8 else [*value, value[place]]
        return self._any_value()

    def _any_value(self) -> Any:
        value = self._random.choice(self._values)
        while self._random.random() < 0.5 and isinstance(value, (dict, list)) and value:
            inside = list(value.values()) if isinstance(value, dict) else value
            value = self._random.choice(inside)
        return self._random.choice((value, self._random.choice(_VALUES)))

    def _other_key(self, key: str) -> str:
        ways: tuple[Callable[[str], str], ...] = (
            str.upper, str.lower, str.title, str.swapcase,
            lambda k: k.translate(_AS_GO_FOLDS), lambda k: k + "\ufffd", lambda k: k[:-1],
        )  # fmt: skip
        return self._random.choice(ways)(key)

    # By bytes

    def _changed(self, data: bytes) -> bytes:
        random = self._random
        at = random.randrange(len(data) + 1)
        to = min(len(data), at + random.choice((1, 1, 2, 4, 16, 64)))
        way = random.randrange(10)
        if way < 2 and at < len(data):
            changed = data[at] ^ 1 << random.randrange(8)
            return data[:at] + bytes((changed,)) + data[at + 1 :]
        if way < 4 and self._form is Form.BYTES:  # as long as it was
            return data[:at] + random.randbytes(to - at) + data[to:]
        if way < 6 and self._words:
            return data[:at] + random.choice(self._words) + data[random.choice((at, to)) :]
        if way == 6:
            return data[:at] + data[to:]
        if way == 7:
            other = random.choice(self._seeds)
            start = random.randrange(len(other) + 1)
            return data[:at] + other[start : start + random.choice((4, 16, 64, 4096))] + data[at:]
        if way == 8:
            return data[:at] if random.random() < 0.3 else data[:to] + data[at:]
        return data[:at] + bytes((random.randrange(256),)) + data[at:]

    def _long(self, data: bytes) -> bytes:
        """With a part of it again and again."""
        random = self._random
        at = random.randrange(len(data) + 1)
        part = data[at : at + random.choice((1, 2, 8, 64, 512))] or b"["
        size = random.choice((MOST_BYTES, _LONGEST))
        return data[:at] + part * (size // len(part)) + data[at:]


def _values_in(seed: bytes) -> list[Any]:
    try:
        return [json.loads(seed)]
    except (ValueError, RecursionError):
        return []
