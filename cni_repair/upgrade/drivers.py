"""Which driver serves a card now, as ethtool -i shows it."""

from __future__ import annotations

import array
import errno
import fcntl
import struct

from cni_repair.base.frozen import frozen
from cni_repair.netlink.codec import raw_string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.netlink.socket import Rtnetlink

# include/uapi/linux/sockios.h, ethtool.h. Netlink has nothing like it: a driver's name and version
# are told by this call alone.
_SIOCETHTOOL = 0x8946
_GDRVINFO = 0x3
_DRVINFO = struct.Struct("=I32s32s32s100x")  # command, driver, version, firmware; what we leave out
_IFREQ = struct.Struct("16sP16x")
_NOT_TOLD = (errno.EOPNOTSUPP, errno.ENODEV)


@frozen
class CardDriver:
    """What serves a card."""

    name: str = ""  # empty where nobody tells
    version: str = ""  # the kernel's, of a driver that came with it
    firmware: str = ""


def driver_of(rtnl: Rtnetlink, ifname: str) -> CardDriver:
    """The driver of a link that is there, by its first name."""
    answer = array.array("B", _DRVINFO.pack(_GDRVINFO, b"", b"", b""))
    address, _ = answer.buffer_info()
    try:
        fcntl.ioctl(rtnl.sock.fileno(), _SIOCETHTOOL, _IFREQ.pack(raw_string(ifname), address))
    except OSError as error:
        if error.errno in _NOT_TOLD:
            return CardDriver()
        raise
    _, *texts = _DRVINFO.unpack(answer.tobytes())
    return CardDriver(*(_text(raw) for raw in texts))


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace")
