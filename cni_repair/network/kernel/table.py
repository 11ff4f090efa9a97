"""One table a noun: a row for each field, and what is made of the rows.

A row says everything about its field: how netlink carries it, what `ip` calls it, how a checkpoint
holds it, when it is set and when it is compared. What a row cannot say (a number in a message's
fixed header, two fields in one attribute) the noun's own module does, and the row says so in
`because`. tests/unit/test_tables.py walks over all of them, and over what comes of them.
"""

from __future__ import annotations

from cni_repair.base.frozen import fields, frozen
from cni_repair.base.kinds import integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from cni_repair.base.kinds import Reader
    from cni_repair.netlink.codec import Codec

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

_ALWAYS_SAID = object()


@frozen
class Field:
    """One field of a noun; see the constants above for `set_` and `compared`."""

    name: str  # of the value; in camel case that of the record
    record: Reader  # what a checkpoint may hold
    attribute: int | None = None  # of netlink; None: see `because`
    codec: Codec | None = None
    # What `ip` says: "mtu {}", or made of the value; None: see `because`.
    word: str | Callable[[Any], str] | None = None
    set_: str = ANYTIME
    compared: str = SETTLED
    # Of the noun's family, which a checkpoint's reader checks.
    of_family: bool = False
    because: Mapping[str, str] = {}  # which half ("wire", "word", …) is missing here, and why

    def said(self, value: Any) -> str:
        """The field in the words of `ip`."""
        if isinstance(self.word, str):
            return self.word.format(value)
        return self.word(value) if self.word else ""


class Table:
    """The rows of one noun, in the order of its `ip` command."""

    def __init__(self, noun: type, *rows: Field) -> None:
        self.noun = noun
        self.rows = rows
        self.by_name = {row.name: row for row in rows}
        # What goes without saying, neither sent nor spoken of. (A field without a default value is
        # always said.)
        self.unsaid = {row.name: getattr(noun, row.name, _ALWAYS_SAID) for row in rows}
        self._defaults = {name: getattr(noun, name) for name in fields(noun) if hasattr(noun, name)}
        carried = [
            (row.attribute, row.name, row.codec)
            for row in rows
            if row.attribute is not None and row.codec is not None
        ]
        self._decoders = tuple((kind, name, codec.decode) for kind, name, codec in carried)
        self._encoders = tuple(
            (name, kind, codec.encode, self.unsaid[name]) for kind, name, codec in carried
        )

    @property
    def readers(self) -> dict[str, Reader]:
        """How a checkpoint's reader takes each of the fields."""
        return {row.name: row.record for row in self.rows}

    @property
    def of_family(self) -> tuple[str, ...]:
        """The fields that must be of the noun's family."""
        return tuple(row.name for row in self.rows if row.of_family)

    def decode(self, attributes: Mapping[int, bytes]) -> dict[str, Any]:
        """The values that the attributes carry, and the defaults of the others."""
        values = self._defaults.copy()
        for kind, name, decode in self._decoders:
            raw = attributes.get(kind)
            if raw is not None:
                values[name] = decode(raw)
        return values

    def encode(self, value: object) -> bytes:
        """The attributes of what does not go without saying."""
        values = value.__dict__
        parts = []
        for name, kind, encode, unsaid in self._encoders:
            one = values[name]
            if one != unsaid:
                parts.append(encode(kind, one))
        return b"".join(parts)
