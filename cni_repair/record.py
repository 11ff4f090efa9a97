"""Frozen value objects without the price of :mod:`dataclasses`.

`import dataclasses` costs 20 ms (it pulls in `inspect` and `re`), twice
what the whole bare macvlan plugin needs. mypy sees a frozen dataclass; the interpreter runs the few
lines below.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from typing_extensions import dataclass_transform

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True)
    def record(cls: type[T]) -> type[T]: ...

    def replace(value: T, **changes: Any) -> T: ...

    def asdict(value: object) -> dict[str, Any]: ...

    def fields(cls: type) -> tuple[str, ...]: ...
else:

    def record(cls):
        """Give `cls` an initialiser, equality, hash and repr from its annotations; freeze it."""
        names = fields(cls)
        defaults = {name: getattr(cls, name) for name in names if hasattr(cls, name)}
        assign = object.__setattr__

        def __init__(self, *args, **given):
            if len(args) > len(names):
                raise TypeError(f"{cls.__name__} takes {len(names)} values, got {len(args)}")
            values = {**defaults, **dict(zip(names, args)), **given}
            if len(values) != len(names) or not values.keys() <= set(names):
                odd = set(names).symmetric_difference(values)
                raise TypeError(f"{cls.__name__}: missing or unknown: {', '.join(sorted(odd))}")
            for name in names:
                assign(self, name, values[name])

        def as_tuple(self):
            return tuple(getattr(self, name) for name in names)

        def __eq__(self, other):
            return (
                as_tuple(self) == as_tuple(other) if type(other) is type(self) else NotImplemented
            )

        def __repr__(self):
            inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
            return f"{cls.__name__}({inside})"

        def refuse(self, *_):
            raise AttributeError(f"{cls.__name__} is frozen")

        cls.__init__ = __init__
        cls.__eq__ = __eq__
        cls.__hash__ = lambda self: hash(as_tuple(self))
        cls.__repr__ = __repr__
        cls.__setattr__ = cls.__delattr__ = refuse
        return cls

    def replace(value, **changes):
        """A copy of a record with some fields changed."""
        return type(value)(**{**asdict(value), **changes})

    def asdict(value):
        """A record's own fields, in their order; records inside stay records."""
        return {name: getattr(value, name) for name in fields(type(value))}

    def fields(cls):
        """The names of a record's fields, in the order of their definition."""
        return tuple(cls.__annotations__)
