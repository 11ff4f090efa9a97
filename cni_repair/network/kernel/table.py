"""One table a noun: a row for each field, and what is made of the rows.

A row says everything about its field: how netlink carries it, what `ip` calls it, how a checkpoint
holds it, when it is set and when it is compared. What a row cannot say (a number in a message's
fixed header, two fields in one attribute) the noun's own module does, and the row says so in
`because`. tests/unit/test_tables.py walks over all of them, and over what comes of them.
"""

from __future__ import annotations

from cni_repair.base.frozen import frozen
from cni_repair.base.kinds import integer
from cni_repair.netlink import codec as nl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, TypeAlias

    from cni_repair.base.kinds import Kind

    Say: TypeAlias = Callable[[Any], str]
    Decode: TypeAlias = Callable[[bytes], Any]
    Unsaid: TypeAlias = tuple[object, ...]
    Encoding: TypeAlias = tuple[str, int, Callable[[int, Any], bytes], Unsaid]
    Spoken: TypeAlias = tuple[str, Say | None, Unsaid]

# When a field is set.
ANYTIME = "anytime"  # with what is made, and on what is there
AT_CREATION = "at creation"  # only a new one can get it
AFTERWARDS = "afterwards"  # by a message of its own
# When a recorded value and one that was found are compared.
ALWAYS = "always"
SETTLED = "once settled"  # later plugins of a chain change it
NEVER = "never"  # neither compared, nor set

# The numbers that a checkpoint may hold.
UINT8 = integer(0, 0xFF)
UINT16 = integer(0, 0xFFFF)
UINT32 = integer(0, 0xFFFFFFFF)
INT31 = integer(0, 0x7FFFFFFF)

# Scopes of addresses and routes: include/uapi/linux/rtnetlink.h, as iproute2 writes them
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}


@frozen
class Field:
    """One field of a noun; see the constants above for `set_` and `compared`."""

    name: str  # of the value; in camel case that of the record
    record: Kind  # what a checkpoint may hold
    attribute: int | None = None  # of netlink; None: see `because`
    codec: nl.Codec | None = None
    # What `ip` says: "mtu {}", or made of the value; None: see `because`.
    word: str | Say | None = None
    set_: str = ANYTIME
    compared: str = SETTLED
    within: str = ""  # of a link: the attribute is one of this kind's own (IFLA_INFO_DATA)
    of_family: bool = False  # an address, which must be of the noun's family
    # Values that go without saying, besides the field's default: neither sent nor spoken of.
    unsaid: Unsaid = ()
    always_sent: bool = False  # the default, too
    # What a new one has by itself: read as the default, and so in no record, which an older
    # cni-repair can read then. `limit`: or what this attribute says, which is the master's.
    # `along`: this attribute sets it, too, up to `usual`.
    usual: int | None = None
    limit: int | None = None
    along: int | None = None
    is_silent: bool = False  # a recorded default says nothing: it is not compared
    because: Mapping[str, str] | None = None  # which half ("wire", "word", …) is missing, and why

    @property
    def number(self) -> int:
        """The attribute's, of a row that has one, and its codec."""
        assert self.attribute is not None, f"{self.name} has no attribute"
        return self.attribute

    @property
    def is_given(self) -> bool:
        """Whether what is made gets it at once."""
        return self.set_ in (ANYTIME, AT_CREATION)

    @property
    def say(self) -> Say | None:
        """Puts a value into the words of `ip`."""
        return self.word.format if isinstance(self.word, str) else self.word


class Table:
    """The rows of one noun, in the order of its `ip` command."""

    def __init__(self, noun: type, *rows: Field) -> None:
        self.noun = noun
        self.rows = rows
        self.by_name = {row.name: row for row in rows}
        self._defaults = {row.name: vars(noun)[row.name] for row in rows if row.name in vars(noun)}
        # What a repair of hundreds of pods walks over, once for each message. ADD writes none.
        self._plain = _decoding(rows, "")
        self._with_usual = tuple(_decoding_usual(rows))
        self._own = {row.within: _decoding(rows, row.within) for row in rows if row.within}
        self._encoders: dict[str, tuple[Encoding, ...]] = {}
        self._spoken: tuple[Spoken, ...] = ()

    @property
    def readers(self) -> dict[str, Kind]:
        """How a checkpoint's reader takes each of the fields."""
        return {row.name: row.record for row in self.rows}

    @property
    def of_family(self) -> tuple[str, ...]:
        """The fields that must be of the noun's family."""
        return tuple(row.name for row in self.rows if row.of_family)

    @property
    def spoken(self) -> tuple[Spoken, ...]:
        """What is said of a new one: each name, how it is put, which values go without saying."""
        if not self._spoken:
            given = [row for row in self.rows if row.is_given]
            self._spoken = tuple((row.name, row.say, self.unsaid(row)) for row in given)
        return self._spoken

    def said(self, name: str, value: object) -> str:
        """One field in the words of `ip`."""
        say = self.by_name[name].say
        assert say is not None, f"{name} has no word"
        return say(value)

    def compared(self, when: str) -> tuple[Field, ...]:
        """The rows that are compared then."""
        return tuple(row for row in self.rows if row.compared == when)

    def unsaid(self, row: Field) -> Unsaid:
        """The values that go without saying: the default, if there is one, and the row's own."""
        default = (self._defaults[row.name],) if row.name in self._defaults else ()
        return (*default, *row.unsaid)

    def decode(self, attributes: Mapping[int, bytes]) -> dict[str, Any]:
        """The values that the attributes carry, and the defaults of the others."""
        values = self._defaults.copy()
        for kind, name, decode in self._plain:
            raw = attributes.get(kind)
            if raw is not None:
                values[name] = decode(raw)
        for kind, name, decode, usual, limit, along in self._with_usual:
            raw = attributes.get(kind)
            if raw is None or raw == attributes.get(limit):
                continue
            by_itself = attributes.get(along, usual)
            if by_itself != usual and nl.u32_of(by_itself) > nl.u32_of(usual):
                by_itself = usual
            if raw != by_itself:
                values[name] = decode(raw)
        return values

    def decode_own(self, values: dict[str, Any], kind: str, data: Mapping[int, bytes]) -> None:
        """Add what a link's kind has of its own (IFLA_INFO_DATA)."""
        for number, name, decode in self._own.get(kind, ()):
            raw = data.get(number)
            if raw is not None:
                values[name] = decode(raw)

    def encode(self, value: object, within: str = "") -> bytes:
        """The attributes that what is made gets, but for what goes without saying."""
        if within not in self._encoders:
            self._encoders[within] = tuple(self._encoding(within))
        values = vars(value)
        parts = []
        for name, kind, encode, unsaid in self._encoders[within]:
            one = values[name]
            if one not in unsaid:
                parts.append(encode(kind, one))
        return b"".join(parts)

    def encode_field(self, name: str, value: object) -> bytes:
        """The attribute of one field."""
        row = self.by_name[name]
        assert row.codec is not None, f"{name} has no attribute"
        return row.codec.encode(row.number, value)

    def _encoding(self, within: str) -> Iterator[Encoding]:
        for row in self.rows:
            if row.codec is not None and row.within == within and row.is_given:
                unsaid = () if row.always_sent else self.unsaid(row)
                yield row.name, row.number, row.codec.encode, unsaid


def _decoding(rows: Sequence[Field], within: str) -> tuple[tuple[int, str, Decode], ...]:
    return tuple(
        (row.number, row.name, row.codec.decode)
        for row in rows
        if row.codec is not None and row.within == within and row.usual is None
    )


def _decoding_usual(rows: Sequence[Field]) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        if row.codec is not None and row.usual is not None:
            usual = row.codec.encode(0, row.usual)[4:]
            yield row.attribute, row.name, row.codec.decode, usual, row.limit, row.along
