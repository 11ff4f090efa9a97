from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.errors import DECODE, CniError
from cni_repair.base.strictjson import (
    MAX_DEPTH,
    dumps,
    fold,
    load_configuration,
    load_object,
    loads,
)
from tests.unit.strategies import json_values

BAD: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\t ",
    "torn": b'{"netns":"/proc/1/ns/n',
    "torn-after-key": b'{"netns":',
    "nul-filled": bytes(4096),
    "nul-after": b"{}" + bytes(16),
    "not-utf-8": b'{"a":"\xff\xfe"}',
    "utf-16": '{"a":1}'.encode("utf-16"),
    "byte-order-mark": b"\xef\xbb\xbf{}",
    "surrogate-bytes": b'{"a":"\xed\xa0\x80"}',
    "lone-high-surrogate": rb'{"a":"\ud800"}',
    "lone-low-surrogate": rb'{"a":"\udc00"}',
    "lone-surrogate-in-key": rb'{"\ud800":1}',
    "lone-surrogate-in-list": rb'{"a":["\uDFFF"]}',
    "brackets": b"[" * 100_000,
    "closed-brackets": b"[" * 100_000 + b"]" * 100_000,
    "nested-objects": b'{"a":' * 100_000,
    "just-too-deep": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "duplicate-key": b'{"master":"a","master":"b"}',
    "duplicate-key-inside": b'{"a":[{"b":1,"b":2}]}',
    "case-folded-key": b'{"master":"a","Master":"b"}',
    "case-folded-long-s": '{"master":"a","ma\u017fter":"b"}'.encode(),
    "case-folded-kelvin": '{"link":"a","lin\u212a":"b"}'.encode(),
    "nan": b'{"a":NaN}',
    "infinity": b'{"a":Infinity}',
    "minus-infinity": b'{"a":-Infinity}',
    "too-large-number": b'{"a":1e999}',
    "too-small-number": b'{"a":-1e999}',
    "trailing-garbage": b"{}x",
    "two-documents": b"{}{}",
    "trailing-comma": b'{"a":1,}',
    "single-quotes": b"{'a':1}",
    "comment": b"{}//",
    "control-character": b'{"a":"\n"}',
    "310-digits": b'{"a":1' + b"0" * 309 + b"}",
    "310-digits-in-a-list": b'{"b":"%b","a":[[-1%b]]}' % (b"x" * 17, b"0" * 309),
    "just-too-large-integer": b"%d" % ((1 << 1024) - (1 << 970)),
    "5000-digits": b'{"a":' + b"9" * 5_000 + b"}",
    "bare-word": b"nonsense",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_bad_document_is_code_6_and_named(raw: bytes) -> None:
    with pytest.raises(CniError) as caught:
        loads(raw, "the sample")
    assert caught.value.code == DECODE
    assert "the sample" in caught.value.msg
    assert caught.value.details


def test_document_above_the_cap_is_code_6() -> None:
    assert loads(b"[1]", "it", max_bytes=3) == [1]
    with pytest.raises(CniError, match="at most 2"):
        loads(b"[1]", "it", max_bytes=2)


def test_depth_up_to_the_limit_is_read() -> None:
    assert loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "it")


@pytest.mark.parametrize("raw", [b"[]", b'"a"', b"1", b"null", b"true"])
def test_object_wanted(raw: bytes) -> None:
    with pytest.raises(CniError, match="not a JSON object") as caught:
        load_object(raw, "it")
    assert caught.value.code == DECODE


@pytest.mark.parametrize("number", [10**308, -(10**308), (1 << 1024) - (1 << 970) - 1])
@pytest.mark.parametrize("before", range(31))
def test_integer_that_goes_numbers_hold_is_read(number: int, before: int) -> None:
    assert loads(b"[%b%d]" % (b" " * before, number), "it") == [number]
    assert loads(b'["%b%d"]' % (b"-" * before, number * 100), "it")


@pytest.mark.parametrize("before", range(31))
def test_too_large_integer_is_found_wherever_it_stands(before: int) -> None:
    raw = b'{"a":%b%d}' % (b" " * before, 10**309)
    for read in (loads, load_configuration):
        with pytest.raises(CniError, match="too large"):
            read(raw, "it")


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (b'{"a":"\xff"}', "\ufffd"),
        (b'{"a":"\xe2\x82"}', "\ufffd\ufffd"),  # of a character of three bytes
        (b'{"a":"\xf0\x9f\x98"}', "\ufffd\ufffd\ufffd"),
        (b'{"a":"\xed\xa0\x80"}', "\ufffd\ufffd\ufffd"),
        (b'{"a":"\xe2\x82\xe2\x82\xac"}', "\ufffd\ufffd€"),
        (rb'{"a":"\ud800"}', "\ufffd"),
    ],
)
def test_configuration_has_a_replacement_for_each_bad_byte_as_in_go(raw: bytes, read: str) -> None:
    assert load_configuration(raw, "it") == {"a": read}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("TYPE", "type", True),
        ("lin\u212a", "link", True),  # Kelvin
        ("ma\u017fter", "master", True),  # long s
        ("Σ", "ς", True),
        ("ẞ", "ß", True),
        ("addreß", "address", False),
        ("ﬁ", "fi", False),
        ("İ", "i", False),
        ("\u0131", "i", False),
    ],
)
def test_keys_are_compared_letter_by_letter_as_in_go(one: str, other: str, same: bool) -> None:
    assert (fold(one) == fold(other)) is same
    raw = json.dumps({one: 1, other: 1}).encode()
    if same:
        with pytest.raises(CniError, match="appears twice"):
            load_configuration(raw, "it")
    else:
        assert load_configuration(raw, "it") == {one: 1, other: 1}


def test_surrogate_pair_is_one_character() -> None:
    assert loads(rb'"\ud83d\ude00"', "it") == "\U0001f600"


@given(json_values)
def test_what_is_written_reads_the_same(value: Any) -> None:
    text = dumps(value)
    assert text.isascii()
    assert "\n" not in text
    assert loads(text.encode(), "it") == value
    assert json.loads(text) == value


@given(json_values)
def test_reads_what_the_standard_library_writes(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert loads(text.encode(), "it") == value


@given(st.binary(max_size=40) | st.text('{}[]":,\\u0de1-.e \x00', max_size=24).map(str.encode))
def test_any_bytes_are_read_as_json_reads_them_or_refused(raw: bytes) -> None:
    try:
        value = loads(raw, "it")
    except CniError as error:
        assert error.code == DECODE
    else:
        assert json.loads(raw) == value


def test_what_has_no_json_form_is_our_mistake() -> None:
    with pytest.raises(TypeError, match="bytes"):
        dumps(b"")
