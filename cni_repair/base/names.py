"""Which names are valid: libcni's rules, applied to the whole text."""

from __future__ import annotations

OWN_TYPE = "cni-repair"  # our plugin's, in network configurations
_ID_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_ID_REST = _ID_FIRST | frozenset("_.-")
_NEVER_IN_IFNAMES = frozenset("/:\0")


def valid_id(text: str) -> bool:
    """libcni's pattern for container ids, network names and plugin types:
    `[a-zA-Z0-9][a-zA-Z0-9_.-]*`."""
    return bool(text) and text[0] in _ID_FIRST and _ID_REST.issuperset(text)


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
