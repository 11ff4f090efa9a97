"""IPv6 link-local addresses: those that the kernel makes by itself, and would make again. Pure."""

from __future__ import annotations

from cni_repair.network.kernel.address import link_local_of
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.kernel.sysctl import ADDR_GEN_MODE, DISABLE_IPV6
from cni_repair.network.model import RT_SCOPE_LINK, Address

EUI64, _BY_SECRET = "0", ("2", "3")  # enum in6_addr_gen_mode


def odd_link_locals(
    live: LiveLink, by_kernel: tuple[Address, ...], stable_private: tuple[str, ...]
) -> tuple[int | None, tuple[Address, ...]] | None:
    """The kernel's link-local addresses that it would not make for a new link: somebody changed the
    MAC since, or the way of making them.

    `stable_private`: those that were made by the secret. With the addresses goes the way of making
    them (ADDR_GEN_MODE) where the kernel would make one that is not there, None where it would not.
    None for both where there is nothing to remember, and while they may not be there yet.
    """
    mode = _mode(live)
    if mode is None:
        return None
    own = tuple(one for one in by_kernel if one.scope == RT_SCOPE_LINK)
    if mode in _BY_SECRET and len(stable_private) == 1:
        # Nobody else can make that one: IFA_F_STABLE_PRIVACY is not taken from user space.
        rest = tuple(one for one in own if one.address not in stable_private)
        return (None, rest) if rest else None
    # (Before 5.18 one that somebody configured cannot be told from the kernel's.)
    usual = (link_local_of(live.link.mac),) if mode == EUI64 else ()
    if mode not in _BY_SECRET and tuple(one.address for one in own) == usual:
        return None
    return int(mode), own


def makes_eui64(live: LiveLink) -> bool:
    """Whether the kernel has made a link-local address of the link's MAC by now."""
    return _mode(live) == EUI64


def _mode(live: LiveLink) -> str | None:
    """The way of making them; None where the kernel had no reason to make one yet.

    And for a link with its master's MAC: the kernel tells those apart by numbers of its own
    (ipvlan's dev_id), and an old number may be another pod's by now.
    """
    sysctls = dict(live.sysctls)
    ready = live.up and live.carrier and sysctls.get(DISABLE_IPV6) == "0"
    return sysctls.get(ADDR_GEN_MODE) if ready and not live.link.inherits_mac else None
