"""Which names are valid: libcni's rules, applied to the whole text."""

from __future__ import annotations

OWN_TYPE = "cni-repair"  # our plugin's, in network configurations
_ID_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_ID_REST = _ID_FIRST | frozenset("_.-")
_HEX = frozenset("0123456789abcdef")
_NEVER_IN_IFNAMES = frozenset("/:\0")


def valid_id(text: str) -> bool:
    """libcni's pattern for container ids, network names and plugin types:
    `[a-zA-Z0-9][a-zA-Z0-9_.-]*`."""
    return bool(text) and text[0] in _ID_FIRST and _ID_REST.issuperset(text)


def bare_id(container_id: str) -> str:
    """A container id as its runtime shows it, and as its cgroup names it: nerdctl puts its
    namespace before the one that it gives to CNI (default-ID)."""
    last = container_id.rpartition("-")[2]
    return last if len(last) == 64 and _HEX.issuperset(last) else container_id


def short_id(container_id: str) -> str:
    """A container id as people write it."""
    return bare_id(container_id)[:12]


def title_of(pod: str, container_id: str, ifname: str) -> str:
    """An attachment's name for people."""
    return " ".join(part for part in (pod, short_id(container_id), ifname) if part)


def valid_ifname(name: str) -> bool:
    """libcni's ValidateInterfaceName, which is the kernel's dev_valid_name()."""
    return _is_name(name, at_most=15)


def valid_link_name(name: str) -> bool:
    """A name by which the kernel may find a link: altnames may be longer (ALTIFNAMSIZ)."""
    return _is_name(name, at_most=127)


def _is_name(name: str, at_most: int) -> bool:
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:  # JSON could not carry it
        return False
    return (
        0 < len(encoded) <= at_most
        and name not in (".", "..")
        and _NEVER_IN_IFNAMES.isdisjoint(name)
        and name.split() == [name]  # no blank of any kind
    )
