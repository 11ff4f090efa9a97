"""YAML, as far as a plan may use it: how it is typed, what is refused and in which words."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base import strictyaml
from cni_repair.base.errors import DECODE, CniError
from tests.unit.examples import examples


def loaded(text: str | bytes) -> Any:
    return strictyaml.loads(text if isinstance(text, bytes) else text.encode(), "plan.yaml")


def ack(text: str | bytes) -> str:
    with pytest.raises(CniError) as caught:
        loaded(text)
    assert caught.value.code == DECODE
    assert "plan.yaml" in caught.value.msg
    assert "\n" not in caught.value.details
    return caught.value.details


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: [x, 'y', \"z\"]\n", {"a": 1, "b": ["x", "y", "z"]}),
        ("a:\n  b:\n  - c\n  - d: e\n", {"a": {"b": ["c", {"d": "e"}]}}),
        ('{"a": [true, null, -1.5, "\\u00e4"]}', {"a": [True, None, -1.5, "ä"]}),
        ("--- # one document\na: 1\n...\n", {"a": 1}),
        ("\ufeffa: 1\r\n", {"a": 1}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("a: {}\nb: []\nc:\nd: ''", {"a": {}, "b": [], "c": None, "d": ""}),
        ("on: 1\n2: 3\n~: 4\n", {"on": 1, "2": 3, "~": 4}),
        ("[]", []),
        ("word", "word"),
    ],
    ids=ascii,
)
def test_documents(text: str, value: object) -> None:
    assert loaded(text) == value


@pytest.mark.parametrize(
    "word",
    [
        "yes", "Yes", "on", "off", "n", "12:30", "2026-11-23", "5m", "0x1F", "0o17", "1_000",
        ".inf", "<<", "=", "1.2.3", "e4",
    ],
)  # fmt: skip
def test_words_that_yaml_1_1_would_type(word: str) -> None:
    assert loaded(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True), ("False", False), ("TRUE", True), ("~", None), ("null", None),
        ("7", 7), ("-7", -7), ("+7", 7), ("010", 10), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0),
    ],
)  # fmt: skip
def test_words_that_have_a_type(word: str, value: object) -> None:
    found = loaded(f"a: {word}")["a"]
    assert (found, type(found)) == (value, type(value))
    assert loaded(f"a: '{word}'") == {"a": word}


# Outside of the BMP, JSON escapes a character as two halves, which YAML does not know.
_texts = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=10)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(-1e9, 1e9) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


@given(_json)
def test_json_is_read_as_json(value: object) -> None:
    assert loaded(json.dumps(value)) == value


REFUSED = {
    "empty": ("", "empty"),
    "comments-only": ("# nothing\n\n", "empty"),
    "not-utf-8": (b"a: \xff\n", "not UTF-8 at byte 3"),
    "utf-16": ("a: 1\n".encode("utf-16"), "not UTF-8"),
    "too-long": (b"#" * (64 << 10) + b"\n", "65536 bytes"),
    "control-character": ("a: 1\nb: \x07\n", "line 2: the control character '\\x07': remove"),
    "nul": ("a: 1\0\n", "line 1: the control character '\\x00'"),
    "tab": ("a:\n\tb: 1\n", "line 2, column 1: "),
    "tab-remedy": ("a:\n\tb: 1\n", "indent with spaces"),
    "colon": (
        "a: 1\n b: 2\n",
        "line 2, column 3: mapping values are not allowed here: indent keys",
    ),
    "reserved": ("a: @x\n", "put the text in quotes"),
    "percent": ("a: %5\n", "put the text in quotes"),
    "open-bracket": ("a: [1\nb: 2\n", "line 2, column 2: "),
    "open-bracket-begun": ("a: [1\n\nb", "in what begins at line 1"),
    "open-quote": ("a: 'x\n", "line 2, column 1: "),
    "list-and-mapping": ("- a\nb: c\n", "line 2, column 1: "),
    "version-directive": ("%YAML 2.0\n---\na: 1\n", "line 1, column 1: "),
    "second-document": ("a: 1\n---\nb: 2\n", "line 2: a second document begins"),
    "twice": ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' appears in line 1 already: keep one"),
    "twice-below": ("x:\n  a: 1\n  'a': 1\n", "line 3: key 'a' appears in line 2 already"),
    "twice-differently": ('{a: 1, "a": 2}', "appears in line 1 already"),
    "anchor": ("a: &x 1\n", "line 1: aliases (&, *) are not read"),
    "alias": ("a: 1\nb: *a\n", "line 2: aliases"),
    "anchored-list": ("a: &x [1]\n", "line 1: aliases"),
    "anchored-key": ("&x a: 1\n", "line 1: aliases"),
    "bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 1: aliases"),
    "itself": ("&a [*a]\n", "line 1: aliases"),
    "python": ("a: !!python/object/apply:os.system [id]\n", "line 1: the tag "),
    "tagged-text": ("a: !!str 1\n", "line 1: the tag 'tag:yaml.org,2002:str'"),
    "tagged-mapping": ("!!set {a, b}\n", "line 1: the tag "),
    "tagged-key": ("!!str a: 1\n", "line 1: the tag "),
    "non-specific-tag": ("a: ! 1\n", "line 1: the tag '!'"),
    "template": ("a: {{ x }}\n", "line 1: a key that is not a text: put it in quotes"),
    "list-as-key": ("? [a]\n: 1\n", "line 1: a key that is not a text"),
    "deep": ("[" * 17 + "]" * 17, "nested deeper than 16 levels"),
    "bottomless": ("[" * 65000, "nested deeper than 16 levels"),
    "deep-mapping": ("".join(f"{' ' * n}a:\n" for n in range(20)), "nested deeper"),
    "half-a-pair": ('a: "\\ud83d"\n', "line 1: half of a surrogate pair"),
    "pair-of-escapes": ('a: "\\ud83d\\ude00"\n', "line 1: half of a surrogate pair"),
    "no-character": ('a: "\\U00110000"\n', "is not a character"),
    "no-character-at-all": ('a: "\\Uffffffff"\n', "is not a character"),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_line(text: str | bytes, words: str) -> None:
    assert words in ack(text)


def test_deepest_that_is_read() -> None:
    value = loaded("[" * 16 + "]" * 16)
    for _ in range(15):
        (value,) = value
    assert value == []


_PIECES = [
    "a", "b: ", ": ", "- ", "\n", "  ", "\t", "[", "]", "{", "}", ",", "'", '"', "#", "&x", "*x",
    "!", "|", ">", "?", "%", "---", "...", "\\", "\\U", "\\x0", "@", "\0", "\ufeff", "\u2028", "é",
    "~",
]  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join) | st.text() | st.binary())
@examples(400)
def test_anything_is_read_or_refused_in_our_own_words(text: str | bytes) -> None:
    try:
        loaded(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    except CniError as error:
        assert error.code == DECODE
        assert "\n" not in error.details


# --- documents as Kubernetes reads them ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a: &x [1]\nb: *x\n", [{"a": [1], "b": [1]}]),
        ("a: &x 1\nb: &x 2\nc: *x\n", [{"a": 1, "b": 2, "c": 2}]),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", [{"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}]),
        ("{c: 3, <<: [{b: 1}, {b: 2, c: 4}]}", [{"b": 1, "c": 3}]),
        ("'<<': 1\n", [{"<<": 1}]),
        ("--- &x 1\n---\n---\na: &x b\n", [1, None, {"a": "b"}]),
    ],
    ids=ascii,
)  # fmt: skip
def test_documents_that_share_values(text: str, values: list[object]) -> None:
    assert strictyaml.loads_all(text.encode(), "nads.yaml") == values


BILLION = "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: *x\n", "line 1: nothing above is named &x"),
        ("a: &x [*x]\n", "line 1: nothing above is named &x"),
        ("--- &x 1\n--- *x\n", "line 2: nothing above is named &x"),
        ("<<: 1\n", "line 1: << takes a mapping"),
        ("<<: {}\n<<: {}\n", "line 2: key '<<' appears in line 1 already"),
        (f"a: &a x\n{BILLION}", "line 5: aliases stand for too much"),
    ],
    ids=lambda value: value[:20],
)
def test_sharing_that_is_refused(text: str, why: str) -> None:
    with pytest.raises(CniError) as caught:
        strictyaml.loads_all(text.encode(), "nads.yaml")
    assert caught.value.details.startswith(why)
