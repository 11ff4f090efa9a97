"""Names against libcni's rules (pkg/utils: ValidateContainerID, ValidateInterfaceName)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.names import valid_id, valid_ifname

LIBCNI_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


@pytest.mark.parametrize("text", ["a", "0", "A.b_c-d", "podnet", "a..b", "x" * 300])
def test_good_id(text: str) -> None:
    assert valid_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "-a", "_a", ".a", "../x", "a/b", "a b", "a\n", "\na", "a\0", "a@b", "a:b",
        "\u00e4", "\u0660", "a\u212a", "\ud800",
    ],
    ids=ascii,
)  # fmt: skip
def test_bad_id(text: str) -> None:
    assert not valid_id(text)


@pytest.mark.parametrize(
    "name", ["eth0", "bond4.3", "a", "...", "x" * 15, "\u00e4" * 7, "veth@1", "-"]
)
def test_good_ifname(name: str) -> None:
    assert valid_ifname(name)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "x" * 16, "\u00e4" * 8, "a/b", "a:b", "a b", "eth0\n", "\teth0", "a\x0b",
        "a\x0c", "a\r", "a\0", "a\u00a0b", "a\u2003b", "\ud800",
    ],
    ids=ascii,
)  # fmt: skip
def test_bad_ifname(name: str) -> None:
    assert not valid_ifname(name)


@given(st.text(max_size=20))
def test_id_is_libcnis_pattern_over_the_whole_text(text: str) -> None:
    assert valid_id(text) == (LIBCNI_ID.fullmatch(text) is not None)


@given(st.text(st.characters(), max_size=20))
def test_any_text_has_a_verdict(text: str) -> None:
    assert valid_ifname(text) in (True, False)
    assert valid_id(text) in (True, False)
