"""Frozen value objects without :mod:`dataclasses`.

`import dataclasses` takes 17 ms, for it imports `inspect` and `re`, and each decorated class takes
more, for its methods are compiled from text; this takes 0.6 ms. (Python 3.11.2, median of 100
processes' CPU time. The bare macvlan plugin's whole ADD takes about 9 ms.)

mypy sees a frozen dataclass; the interpreter runs the few lines below. Here, as in every module on
that path, what only a type checker needs stands behind

    TYPE_CHECKING = False
    if TYPE_CHECKING:

since `from typing import TYPE_CHECKING` takes 10 ms. Type checkers take a variable of this name to
be true, whoever defines it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from typing_extensions import dataclass_transform

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True)
    def frozen(cls: type[T]) -> type[T]: ...

    def replace(value: T, **changes: Any) -> T: ...

    def asdict(value: object) -> dict[str, Any]: ...

    def fields(cls: type) -> tuple[str, ...]: ...
else:

    def frozen(cls):
        """Give `cls` an initialiser, equality, hash and repr from its annotations; freeze it."""
        names = fields(cls)
        count = len(names)
        defaults = {name: getattr(cls, name) for name in names if hasattr(cls, name)}

        def __init__(self, *args, **given):
            # Past __setattr__, which refuses; and fast, for a repair makes dozens of these a pod.
            values = self.__dict__
            if len(given) != count:
                values.update(defaults)
                values.update(zip(names, args))
            values.update(given)
            if len(values) != count or len(args) > count:
                odd = {*names}.symmetric_difference(values)
                raise TypeError(f"{cls.__name__}: missing, unknown or too many: {sorted(odd)}")

        def as_tuple(self):
            values = self.__dict__
            return tuple([values[name] for name in names])

        def __eq__(self, other):
            if type(other) is not type(self):
                return NotImplemented
            return self.__dict__ == other.__dict__

        def __repr__(self):
            inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
            return f"{cls.__name__}({inside})"

        def refuse(self, *_):
            raise AttributeError(f"{cls.__name__} is frozen")

        cls.__init__ = __init__
        cls.__eq__ = __eq__
        if "__hash__" not in cls.__dict__:
            cls.__hash__ = lambda self: hash(as_tuple(self))
        cls.__repr__ = __repr__
        cls.__setattr__ = cls.__delattr__ = refuse
        return cls

    def replace(value, **changes):
        """A copy of a value with some fields changed."""
        return type(value)(**{**value.__dict__, **changes})

    def asdict(value):
        """A value's own fields, in their order; values inside stay as they are."""
        values = value.__dict__
        return {name: values[name] for name in fields(type(value))}

    def fields(cls):
        """The names of the fields of a class, in the order of their definition."""
        return tuple(cls.__annotations__)
