"""The permanent neighbours and the proxy entries of a pod's interface. They go with the link."""

from __future__ import annotations

import struct

from cni_repair.base.kinds import ip_address, mac, one_of
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.table import ALWAYS, UINT8, Field, Table
from cni_repair.network.model import Neighbour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_NEIGHBOURS = 4096
# The kernel cannot leave out what it learned by itself, of which a busy pod on a large network may
# have as much as the node allows (net.ipv4.neigh.default.gc_thresh3: 1024 unless raised).
MAX_READ = 65536

# include/uapi/linux/neighbour.h
NUD_PERMANENT = 0x80
_PROXY = 0x08  # NTF_PROXY
# The flags that are somebody's configuration: NTF_EXT_LEARNED, NTF_ROUTER
_FLAGS = {0x10: "extern_learn", 0x80: "router"}
_CONFIGURABLE = sum(_FLAGS)
_ETHERNET = 6
_STATE = struct.Struct("=8xH")  # ndm_state in struct ndmsg


def _flag_words(flags: int) -> str:
    return " ".join(word for bit, word in _FLAGS.items() if flags & bit)


_IN_HEADER = "struct ndmsg"
TABLE = Table(
    Neighbour,
    Field(
        "family", one_of(4, 6), compared=ALWAYS, because={"wire": _IN_HEADER, "word": "the address"}
    ),
    Field(
        "address",
        ip_address,
        rt.NDA_DST,
        nl.IP,
        compared=ALWAYS,
        of_family=True,
        because={"word": "by itself, or as `proxy`"},
    ),
    Field("mac", mac, rt.NDA_LLADDR, nl.MAC, "lladdr {} nud permanent"),
    Field("flags", one_of(0x00, 0x10, 0x80, 0x90), word=_flag_words, because={"wire": _IN_HEADER}),
    Field("protocol", UINT8, rt.NDA_PROTOCOL, nl.U8, "protocol {}"),
)


def encode(neighbour: Neighbour, ifindex: int) -> bytes:
    """What RTM_NEWNEIGH says of an entry."""
    state, proxy = (NUD_PERMANENT, 0) if neighbour.mac else (0, _PROXY)
    family, flags = nl.NUMBERS[neighbour.family], neighbour.flags | proxy
    return nl.neighbour_body(family, ifindex, state, flags, TABLE.encode(neighbour))


def neighbours_request(ifindex: int, proxy: bool) -> nl.Message:
    """Asks for a dump of a link's neighbours, or of its proxy entries (`ip neigh add proxy`)."""
    filtered = nl.u32(rt.NDA_IFINDEX, ifindex)
    flags = _PROXY if proxy else 0
    return nl.Message(rt.RTM_GETNEIGH, 0, nl.neighbour_body(0, 0, 0, flags, filtered))


@nl.decoder
def is_permanent(body: bytes) -> bool:
    """Whether somebody made an entry of the dump to stay."""
    return bool(_STATE.unpack_from(body)[0] & NUD_PERMANENT)


@nl.decoder
def neighbours_in(bodies: Iterable[bytes], ifindex: int) -> tuple[Neighbour, ...]:
    """The entries of a dump."""
    found = {entry for body in bodies if (entry := decode(body, ifindex)) is not None}
    # The kernel's order is that of its hash table, which may be another the next time.
    return tuple(sorted(found, key=lambda entry: (entry.family, entry.address)))


def decode(body: bytes, ifindex: int) -> Neighbour | None:
    """One entry of a dump; None for one of another link or family (older kernels list the proxy
    entries of all links), and for one that no interface of ours can have."""
    family, link, _, flags, attributes = nl.unpack_neighbour(body)
    proxy = bool(flags & _PROXY)
    if family not in nl.FAMILIES or link != ifindex or rt.NDA_DST not in attributes:
        return None
    if not proxy and len(attributes.get(rt.NDA_LLADDR, b"")) != _ETHERNET:
        return None
    values = TABLE.decode(attributes)
    values["family"] = nl.FAMILIES[family]
    values["flags"] = flags & _CONFIGURABLE
    if proxy:
        values["mac"] = None
    return Neighbour(**values)
