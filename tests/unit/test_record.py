from __future__ import annotations

import pytest

from cni_repair.base.frozen import asdict, fields, frozen, replace


@frozen
class Point:
    """A point."""

    x: int
    y: int = 0

    @property
    def norm(self) -> int:
        return abs(self.x) + abs(self.y)


@frozen
class Other:
    x: int
    y: int = 0


def test_values_by_place_and_by_name() -> None:
    assert (Point(1, 2).x, Point(1, y=2).y, Point(x=1).y) == (1, 2, 0)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"z": 3}), ((), {"y": 1})],
    ids=["missing", "too-many", "unknown", "default-only"],
)
def test_wrong_values_are_refused(arguments: tuple[int, ...], given: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point"):
        Point(*arguments, **given)


def test_frozen() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del point.x
    with pytest.raises(AttributeError, match="frozen"):
        point.z = 2  # type: ignore[attr-defined]
    assert point == Point(1)


def test_equal_by_value_and_kind() -> None:
    assert Point(1, 2) == Point(1, 2)
    assert Point(1, 2) != Point(2, 1)
    other: object = Other(1, 2)
    assert Point(1, 2) != other
    pair: object = (1, 2)
    assert Point(1, 2) != pair
    assert len({Point(1), Point(1), Point(2)}) == 2


def test_repr_reads_as_the_call() -> None:
    assert repr(Point(1, 2)) == "Point(x=1, y=2)"


def test_replace_makes_a_copy() -> None:
    point = Point(1, 2)
    assert replace(point, y=5) == Point(1, 5)
    assert point == Point(1, 2)
    with pytest.raises(TypeError, match="z"):
        replace(point, z=1)


def test_fields_in_order_and_methods_kept() -> None:
    assert fields(Point) == ("x", "y")
    assert asdict(Point(3, 4)) == {"x": 3, "y": 4}
    assert Point(3, -4).norm == 7
    assert Point.__doc__ == "A point."
