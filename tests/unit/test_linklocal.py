"""Link-local addresses: which the kernel makes by itself, and would make again."""

from __future__ import annotations

import pytest

from cni_repair.base.frozen import replace
from cni_repair.network.kernel.address import link_local_of
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.model import Address
from cni_repair.network.planning.linklocal import makes_eui64, odd_link_locals
from tests.unit.samples import LINK, live


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        ("52:54:00:00:00:01", "fe80::5054:ff:fe00:1"),
        ("6e:92:1a:b4:fc:34", "fe80::6c92:1aff:feb4:fc34"),
        ("", ""),
    ],
)
def test_link_local_address_of_a_mac(mac: str, address: str) -> None:
    assert link_local_of(mac) == address


OWN = Address(6, "fe80::6c92:1aff:feb4:fc34", 64, scope=253, proto=3)
OTHER = replace(OWN, address="fe80::1234")
GLOBAL = Address(6, "fd00::6c92:1aff:feb4:fc34", 64, proto=2)

# addr_gen_mode, what the kernel made, those by the secret; what a new link would not get by itself,
# and whether that is made by hand alone
Odd = tuple[int | None, tuple[Address, ...]] | None
Case = tuple[str, tuple[Address, ...], tuple[str, ...], Odd]
SECRETLY = (OTHER.address,)
LINK_LOCALS: dict[str, Case] = {
    "by-mac": ("0", (OWN,), (), None),
    "by-mac-and-from-advertisements": ("0", (OWN, GLOBAL), (), None),
    "of-an-older-mac": ("0", (OTHER,), (), (0, (OTHER,))),
    "of-two-macs": ("0", (OTHER, OWN), (), (0, (OTHER, OWN))),
    "deleted": ("0", (), (), (0, ())),
    "none-wanted": ("1", (), (), None),
    "from-before-none-was-wanted": ("1", (OWN,), (), (1, (OWN,))),
    "by-secret": ("2", (OTHER,), SECRETLY, None),
    "from-before-the-secret": ("2", (OWN,), (), (2, (OWN,))),
    "by-secret-and-from-before": ("2", (OTHER, OWN), SECRETLY, (None, (OWN,))),
    "by-secret-deleted": ("2", (), (), (2, ())),
    "by-chance": ("3", (OTHER,), SECRETLY, None),
}


@pytest.mark.parametrize(
    ("mode", "own", "secretly", "odd"), LINK_LOCALS.values(), ids=LINK_LOCALS.keys()
)
def test_link_local_addresses_that_a_new_link_would_not_get(
    mode: str,
    own: tuple[Address, ...],
    secretly: tuple[str, ...],
    odd: Odd,
) -> None:
    link = replace(live(), sysctls=(("ipv6/addr_gen_mode", mode), ("ipv6/disable_ipv6", "0")))
    assert odd_link_locals(link, own, secretly) == odd


BY_MAC = (("ipv6/addr_gen_mode", "0"), ("ipv6/disable_ipv6", "0"))
NOT_YET = {
    "no-ipv6": live(),
    "disabled": replace(live(), sysctls=(("ipv6/addr_gen_mode", "0"), ("ipv6/disable_ipv6", "1"))),
    "down": replace(live(up=False, carrier=False), sysctls=BY_MAC),
    "no-carrier": replace(live(carrier=False), sysctls=BY_MAC),
    "numbered-by-the-kernel": replace(
        live(replace(LINK, kind="ipvlan", mode="l2")), sysctls=BY_MAC
    ),
}


@pytest.mark.parametrize("link", NOT_YET.values(), ids=NOT_YET.keys())
def test_link_local_address_that_may_still_come_is_not_missing(link: LiveLink) -> None:
    assert odd_link_locals(link, (), ()) is None
    assert not makes_eui64(link)


@pytest.mark.parametrize("mode", ["0", "1", "2", "3"])
def test_link_local_address_of_the_mac_is_made_in_one_mode(mode: str) -> None:
    link = replace(live(), sysctls=(("ipv6/addr_gen_mode", mode), ("ipv6/disable_ipv6", "0")))
    assert makes_eui64(link) == (mode == "0")
