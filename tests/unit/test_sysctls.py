"""The sysctls of an interface, out of the kernel's answer about the link."""

from __future__ import annotations

import struct
from pathlib import Path
from socket import AF_INET, AF_INET6

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cni_repair.netlink import codec as nl
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.kernel.sysctl import (
    STABLE_SECRET,
    SYSCTLS,
    own_settings,
    read_defaults,
    sysctls_in,
)
from cni_repair.network.observe import _get_link, live_link

CONF = Path("/proc/sys/net")
# Where pyroute2 has other names than /proc/sys (include/uapi/linux/ip.h: IPV4_DEVCONF_…).
OTHER_NAMES = {"arpfilter": "arp_filter", "noxfrm": "disable_xfrm", "nopolicy": "disable_policy",
    "src_vmark": "src_valid_mark"}  # fmt: skip
# Changed by router advertisements, in clock ticks, of multicast routing, or not to be set at all.
NOT_OURS = {
    "dummy", "mc_forwarding", "bootp_relay", "tag", "igmpv2_unsolicited_report_interval",
    "igmpv3_unsolicited_report_interval", "hop_limit", "mtu", "router_solicitation_interval",
    "router_solicitation_delay", "temp_valid_lft", "temp_preferred_lft", "regen_max_retry",
    "max_desync_factor", "router_probe_interval",
}  # fmt: skip


def af_spec(ipv4: list[int], ipv6: list[int] | None = None) -> bytes:
    """As inet_fill_link_af() and inet6_fill_link_af() write it, with something else around."""
    found = nl.attribute(AF_INET, nl.attribute(1, struct.pack(f"={len(ipv4)}i", *ipv4)))
    if ipv6 is None:
        return found
    conf = nl.u32(1, 0x80000000) + nl.attribute(2, struct.pack(f"={len(ipv6)}i", *ipv6))
    return found + nl.attribute(AF_INET6, conf + nl.attribute(8, b"\0"))


def test_places_in_the_kernels_arrays() -> None:
    """Against pyroute2, as far as it knows them: each value is its own place."""
    found = dict(sysctls_in(af_spec([*range(1, 60)], [*range(100, 160)])))
    inet = ifinfmsg.af_spec_inet.inet
    ipv4 = {f"ipv4/{name}": place for place, name in enumerate(map(renamed, inet.field_names))}
    conf = ifinfmsg.af_spec_inet.inet6.ipv6_devconf
    ipv6 = {f"ipv6/{name}": 100 + place for place, name in enumerate(conf.field_names)}
    known = {
        key: str(place)
        for key, place in {**ipv4, **ipv6}.items()
        if key.partition("/")[2] not in NOT_OURS
    }
    assert {key: found.get(key) for key in known} == known


def renamed(name: str) -> str:
    return OTHER_NAMES.get(name, name)


def test_this_kernel_shows_the_same_below_proc() -> None:
    """All of those that it knows, of the loopback interface."""
    with Rtnetlink() as rtnl:
        live = live_link(rtnl.get([_get_link(name="lo")])[0])
    assert live is not None
    found = dict(live.sysctls)
    assert len(found) > 30
    shown = {}
    for key in found:
        family, _, name = key.partition("/")
        shown[key] = (CONF / family / "conf/lo" / name).read_text().strip()
    assert found == shown


def test_an_older_kernel_has_fewer() -> None:
    found = dict(sysctls_in(af_spec([7, 8, 9], [5])))
    assert found == {"ipv4/forwarding": "7", "ipv4/proxy_arp": "9", "ipv6/forwarding": "5"}


def test_link_without_ipv6() -> None:
    """Its MTU is below 1280, or the node has none."""
    found = sysctls_in(af_spec([*range(60)]))
    assert found
    assert {key.partition("/")[0] for key, _ in found} == {"ipv4"}


def test_link_of_which_nothing_is_told() -> None:
    assert sysctls_in(b"") == ()


def test_values_below_zero() -> None:
    found = dict(sysctls_in(af_spec([-1] * 40)))
    assert set(found.values()) == {"-1"}


@given(st.binary(max_size=120))
def test_any_bytes_are_read_without_a_crash(raw: bytes) -> None:
    spec = nl.attribute(AF_INET, nl.attribute(1, raw)) + nl.attribute(AF_INET6, raw)
    assert {key for key, _ in sysctls_in(spec)} <= SYSCTLS


@given(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=60, max_size=60))
def test_none_but_the_allow_listed_are_read(values: list[int]) -> None:
    keys = [key for key, _ in sysctls_in(af_spec(values, values))]
    assert sorted(keys) == sorted(SYSCTLS - {STABLE_SECRET})


# --- which of them somebody set ------------------------------------------------------------------


def test_settings_are_what_a_new_link_would_not_have() -> None:
    sysctls = (("ipv4/arp_notify", "1"), ("ipv4/forwarding", "1"), ("ipv6/accept_ra", "0"))
    defaults = {"ipv4/arp_notify": "0", "ipv4/forwarding": "1", "ipv6/accept_ra": "1"}
    assert own_settings(sysctls, defaults) == (("ipv4/arp_notify", "1"), ("ipv6/accept_ra", "0"))
    assert own_settings(sysctls, dict(sysctls)) == ()


def test_setting_of_which_no_default_is_known_is_nobodys() -> None:
    assert own_settings((("ipv4/arp_notify", "1"),), {}) == ()


def test_secret_is_always_somebodys() -> None:
    """The kernel's answers leave it out: it comes with the defaults."""
    secret = (STABLE_SECRET, "2001:db8::5ec:2e7")
    assert own_settings((), dict([secret])) == (secret,)


@pytest.mark.parametrize("ifname", ["lo", "none-of-that"])
def test_defaults_of_this_namespace(ifname: str) -> None:
    found = read_defaults(ifname)
    assert found.keys() <= SYSCTLS
    forwarding = (CONF / "ipv4/conf/default/forwarding").read_text().strip()
    assert found["ipv4/forwarding"] == forwarding
