"""The upgrade plan: what is read, what is refused and in which words; and its published schema."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.errors import CONFIG
from cni_repair.base.frozen import asdict
from cni_repair.base.strictjson import dumps, loads
from cni_repair.upgrade import planfile as plan
from cni_repair.upgrade.digest import digest_in, digest_of
from cni_repair.upgrade.drivercommand import SEARCH_PATH, check_command
from cni_repair.upgrade.planfile import (
    Driver,
    Kubelet,
    Masters,
    OnFailure,
    Plan,
    PlanError,
    Require,
    Required,
    Verify,
    plan_of,
    read_plan,
)
from tests.unit.documents import MUTATIONS, Change, Place, changed, places_in, put
from tests.unit.examples import examples
from tests.unit.samples import REPOSITORY
from tests.unit.schemas import schema_of, validator_of
from tests.unit.strategies import json_values

SCHEMA = schema_of("cni_repair.upgrade", "upgrade.json")
VALIDATOR = validator_of(SCHEMA)
EXAMPLE = REPOSITORY / "conf" / "upgrade.yaml"

MINIMAL: dict[str, Any] = {"version": 1, "driver": {"command": ["/sbin/modprobe", "e1000e"]}}
WHOLE: dict[str, Any] = {
    "version": 1,
    "kubelet": {"unit": "k3s.service", "deadman": "1h"},
    "driver": {"command": "rmmod i40e; modprobe i40e", "deadline": "90s"},
    "masters": {"names": ["bond4", "eth1"], "deadline": "1.5m", "carrier": False},
    "coverage": "75%",
    "verify": {"timeout": "0.5s", "duplicates": True},
    "require": {"carrier": ["bond4", "eth1"], "gateways": "all"},
    "on_failure": {"driver": "hold", "masters": "release", "repair": "hold", "verify": "hold"},
}


def written(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "plan.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def problems_of(document: object) -> tuple[str, ...]:
    with pytest.raises(PlanError) as caught:
        plan_of(document)
    assert caught.value.code == CONFIG
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    assert not any("\n" in problem for problem in caught.value.problems)
    return caught.value.problems


def is_read(document: object) -> bool:
    try:
        plan_of(document)
    except PlanError:
        return False
    return True


# --- its digest ---------------------------------------------------------------------------------

SAME_MEANING: dict[str, dict[str, Any]] = {
    "a key that is its default": {"coverage": "100%"},
    "a default written otherwise": {"masters": {"deadline": "120s"}},
    "a section of defaults": {"verify": {}, "on_failure": {"masters": "hold"}},
    "the driver's own default": {"driver": {**MINIMAL["driver"], "deadline": "5m"}},
}
ANOTHER_MEANING: dict[str, dict[str, Any]] = {
    "command": {"driver": {"command": ["e1000e", "/sbin/modprobe"]}},
    "its words' order": {"driver": {"command": ["/sbin/modprobe", "-r", "e1000e"]}},
    "a text for the shell": {"driver": {"command": "/sbin/modprobe e1000e"}},
    "deadline": {"driver": {**MINIMAL["driver"], "deadline": "6m"}},
    "kubelet": {"kubelet": "none"},
    "unit": {"kubelet": {"unit": "k3s.service"}},
    "coverage": {"coverage": "99%"},
    "names": {"masters": {"names": ["eth0"]}},
    "flag": {"verify": {"duplicates": True}},
    "require": {"require": {"gateways": "all"}},
    "on_failure": {"on_failure": {"driver": "hold"}},
}


@pytest.mark.parametrize("changes", SAME_MEANING.values(), ids=SAME_MEANING.keys())
def test_digest_is_of_the_meaning(changes: dict[str, Any]) -> None:
    assert digest_of(plan_of({**MINIMAL, **changes})) == digest_of(plan_of(MINIMAL))


def test_digest_is_of_no_comment_and_no_order(tmp_path: Path) -> None:
    names = {"masters": {"names": ["b", "a"]}, "driver": {"command": "true", "deadline": "60s"}}
    digest = digest_of(plan_of({"version": 1, **names}))
    text = (
        "# why\nmasters: {names: [a, b]}\n"
        "driver: {deadline: 1m, command: 'true'} # how\nversion: 1\n"
    )
    assert digest_of(read_plan(written(tmp_path, text))) == digest


def test_digest_tells_plans_apart() -> None:
    plans = [MINIMAL, WHOLE, *({**MINIMAL, **changes} for changes in ANOTHER_MEANING.values())]
    assert len({digest_of(plan_of(document)) for document in plans}) == len(plans)


def test_digest_stays_what_it_is() -> None:
    """A fleet is not to be upgraded again for a new version of cni-repair."""
    wanted = "ffcd217cf8097bd3fc301f6da287df5d0f8d8473b0b21bb929db5422a645dc44"
    assert digest_of(plan_of(MINIMAL)) == f"sha256:{wanted}"


def test_digest_of_what_is_no_plan_any_more() -> None:
    assert digest_in({"version": 99}) is None
    assert digest_in(None) is None


@given(st.sampled_from(sorted(WHOLE)))
def test_every_key_counts(key: str) -> None:
    if key not in MINIMAL or WHOLE[key] != MINIMAL[key]:
        assert digest_in({**MINIMAL, key: WHOLE[key]}) != digest_in(MINIMAL)


# --- read ---------------------------------------------------------------------------------------


def test_defaults() -> None:
    assert plan_of(MINIMAL) == Plan(
        kubelet=Kubelet("kubelet.service", 900.0),
        driver=Driver(("/sbin/modprobe", "e1000e"), 300.0),
        masters=Masters((), 120.0, True),
        coverage=100,
        verify=Verify(5.0, False),
        require=Require(Required(False, ()), Required(False, ())),
        on_failure=OnFailure("release", "hold", "release", "release"),
        document=MINIMAL,
    )


def test_every_key() -> None:
    assert plan_of(WHOLE) == Plan(
        kubelet=Kubelet("k3s.service", 3600.0),
        driver=Driver(("/bin/sh", "-c", "rmmod i40e; modprobe i40e"), 90.0),
        masters=Masters(("bond4", "eth1"), 90.0, False),
        coverage=75,
        verify=Verify(0.5, True),
        require=Require(Required(False, ("bond4", "eth1")), Required(True, ())),
        on_failure=OnFailure("hold", "release", "hold", "hold"),
        document=WHOLE,
    )


def test_required_addresses_are_read_as_the_kernel_writes_them() -> None:
    made = plan_of({**MINIMAL, "require": {"gateways": ["10.9.0.1", "FD00:0::01"]}})
    assert made.require.gateways == Required(False, ("10.9.0.1", "fd00::1"))


@pytest.mark.parametrize("document", [MINIMAL, WHOLE], ids=["minimal", "whole"])
def test_journalled_document_gives_the_same_plan(document: dict[str, Any]) -> None:
    first = plan_of(document)
    assert plan_of(loads(dumps(first.document).encode(), "the journal")) == first


def test_no_kubelet() -> None:
    assert plan_of({**MINIMAL, "kubelet": "none"}).kubelet is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("1m", 60), ("0.5h", 1800), ("1.25m", 75), ("24h", 86400), ("86400s", 86400),
     ("007m", 420)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    made = plan_of(changed(WHOLE, ("kubelet", "deadman"), put(text)))
    assert made.kubelet is not None
    assert made.kubelet.deadman == seconds


@pytest.mark.parametrize(
    ("value", "percent"), [("100%", 100), ("0%", 0), ("7%", 7), (100, 100), (0, 0)]
)
def test_coverage(value: object, percent: int) -> None:
    assert plan_of({**MINIMAL, "coverage": value}).coverage == percent


def test_plan_in_a_file(tmp_path: Path) -> None:
    text = """\
version: 1
kubelet: none
driver:
  command: |
    rmmod i40e
    modprobe i40e
  deadline: 10m
verify: {duplicates: true}
"""
    made = read_plan(written(tmp_path, text))
    assert made.kubelet is None
    assert made.driver == Driver(("/bin/sh", "-c", "rmmod i40e\nmodprobe i40e\n"), 600.0)
    assert made.verify.duplicates
    assert made.document["driver"]["deadline"] == "10m"


# --- refused ------------------------------------------------------------------------------------

BAD: dict[str, tuple[Place, object, str]] = {
    "version-missing": (("version",), ..., "$.version: missing: write version: 1"),
    "version-newer": (("version",), 2, "$.version: 2 is no version that is read here: write 1"),
    "version-text": (("version",), "1", "$.version: '1' is no version"),
    "version-true": (("version",), True, "$.version: true is no version"),
    "driver-missing": (("driver",), ..., "$.driver: missing: write driver: with the key command"),
    "driver-nothing": (("driver",), None, "$.driver: nothing is no mapping: write keys below it"),
    "driver-text": (("driver",), "/sbin/x", "$.driver: '/sbin/x' is no mapping: write keys below"),
    "driver-list": (("driver",), [], "$.driver: a list is no mapping"),
    "command-missing": (("driver", "command"), ..., "$.driver.command: missing: write what"),
    "command-nothing": (("driver", "command"), None, "$.driver.command: nothing is no command"),
    "command-none": (("driver", "command"), [], "$.driver.command: nothing is no command: write"),
    "command-empty": (("driver", "command"), " \n", "$.driver.command: it is empty: write what"),
    "command-mapping": (("driver", "command"), {"a": 1}, "$.driver.command: a mapping is no"),
    "command-number": (("driver", "command"), ["sleep", 5], "$.driver.command[1]: 5 is no word of a"
                       " command: put it in quotes"),
    "command-true": (("driver", "command"), ["x", True], "$.driver.command[1]: true is no word"),
    "command-nested": (("driver", "command"), ["x", ["y"]], "$.driver.command[1]: a list is no"),
    "command-relative": (("driver", "command"), ["./x.sh"], "$.driver.command[0]: './x.sh' is no"
                         " program: write its absolute path, or its name"),
    "command-directory": (("driver", "command"), ["/sbin/"], "$.driver.command[0]: '/sbin/'"),
    "command-nameless": (("driver", "command"), [""], "$.driver.command[0]: ''"),
    "duration-words": (("driver", "deadline"), "5 min", "$.driver.deadline: '5 min' is no duration:"
                       " write a number with s, m or h, such as 5m"),
    "duration-bare": (("driver", "deadline"), 300, "$.driver.deadline: 300 is no duration"),
    "duration-digits": (("driver", "deadline"), "300", "$.driver.deadline: '300' is no duration"),
    "duration-unit": (("driver", "deadline"), "5d", "$.driver.deadline: '5d' is no duration"),
    "duration-ms": (("verify", "timeout"), "500ms", "$.verify.timeout: '500ms' is no duration"),
    "duration-case": (("driver", "deadline"), "5M", "$.driver.deadline: '5M' is no duration"),
    "duration-two": (("driver", "deadline"), "1m30s", "$.driver.deadline: '1m30s' is no duration"),
    "duration-negative": (("driver", "deadline"), "-5m", "$.driver.deadline: '-5m' is no duration"),
    "duration-comma": (("driver", "deadline"), "1,5m", "$.driver.deadline: '1,5m' is no duration"),
    "duration-dot": (("driver", "deadline"), ".5m", "$.driver.deadline: '.5m' is no duration"),
    "duration-newline": (("driver", "deadline"), "5m\n", "deadline: '5m\\n' is no duration"),
    "duration-other-digits": (("driver", "deadline"), "\u0665m", "is no duration"),
    "duration-nothing": (("driver", "deadline"), None, "$.driver.deadline: nothing is no duration"),
    "duration-true": (("driver", "deadline"), True, "$.driver.deadline: true is no duration"),
    "duration-list": (("driver", "deadline"), ["5m"], "$.driver.deadline: a list is no duration"),
    "kubelet-off": (("kubelet",), "off", "$.kubelet: 'off' is neither none (nothing here rebuilds"
                    " pods) nor a mapping"),
    "kubelet-nothing": (("kubelet",), None, "$.kubelet: nothing is neither none"),
    "kubelet-false": (("kubelet",), False, "$.kubelet: false is neither none"),
    "unit-bare": (("kubelet", "unit"), "kubelet", "$.kubelet.unit: 'kubelet' is no service: write"
                  " its unit's name, as kubelet.service"),
    "unit-timer": (("kubelet", "unit"), "x.timer", "$.kubelet.unit: 'x.timer' is no service"),
    "unit-option": (("kubelet", "unit"), "--now.service", "$.kubelet.unit: '--now.service' is no"),
    "unit-path": (("kubelet", "unit"), "/etc/x.service", "$.kubelet.unit: '/etc/x.service' is no"),
    "unit-two": (("kubelet", "unit"), "a b.service", "$.kubelet.unit: 'a b.service' is no service"),
    "unit-long": (("kubelet", "unit"), "x" * 248 + ".service", "$.kubelet.unit: 'xxx"),
    "unit-nothing": (("kubelet", "unit"), None, "$.kubelet.unit: nothing is no service"),
    "names-text": (("masters", "names"), "bond4", "$.masters.names: 'bond4' is no list: write names"
                   " in brackets, such as [bond4]"),
    "names-number": (("masters", "names"), ["bond4", 5], "$.masters.names[1]: 5 is no name for a"
                     " link (1-127 bytes): write one, such as bond4"),
    "names-long": (("masters", "names"), ["x" * 128], "$.masters.names[0]: 'xxxxxxxxxxxxxxxx"),
    "names-path": (("masters", "names"), ["../x"], "$.masters.names[0]: '../x' is no name"),
    "names-twice": (("masters", "names"), ["a", "b", "a"], "$.masters.names[2]: 'a' stands twice"),
    "require-text": (("require", "carrier"), "bond4", "$.require.carrier: 'bond4' is neither all"
                     " nor a list: write all, or [bond4]"),
    "require-all-in-a-list": (("require", "carrier"), ["a/b"], "$.require.carrier[0]: 'a/b' is no"
                              " name for a link (1-127 bytes)"),
    "require-twice": (("require", "carrier"), ["a", "a"], "$.require.carrier[1]: 'a' stands twice"),
    "require-true": (("require", "gateways"), True, "$.require.gateways: true is neither all nor a"
                     " list: write all, or [10.9.0.1]"),
    "require-name": (("require", "gateways"), ["tor"], "$.require.gateways[0]: 'tor' is no address:"
                     " write one, such as 10.9.0.1"),
    "require-number": (("require", "gateways"), [10.9], "$.require.gateways[0]: 10.9 is no"),
    "require-prefix": (("require", "gateways"), ["10.9.0.1/24"], "$.require.gateways[0]: '10.9."),
    "require-short": (("require", "gateways"), ["10.9.0"], "$.require.gateways[0]: '10.9.0' is no"),
    "require-letters": (("require", "gateways"), ["a"], "$.require.gateways[0]: 'a' is no address"),
    "require-close": (("require", "gateway"), "all", "$.require.gateway: unknown key: did you mean"
                      " gateways?"),
    "flag-yes": (("masters", "carrier"), "yes", "$.masters.carrier: 'yes' is neither of the two:"
                 " write true or false"),
    "flag-number": (("verify", "duplicates"), 1, "$.verify.duplicates: 1 is neither of the two"),
    "flag-nothing": (("verify", "duplicates"), None, "$.verify.duplicates: nothing is neither"),
    "coverage-more": (("coverage",), "101%", "$.coverage: '101%' is no share: write a whole number"
                      " from 0% to 100%"),
    "coverage-number": (("coverage",), 101, "$.coverage: 101 is no share"),
    "coverage-negative": (("coverage",), -1, "$.coverage: -1 is no share"),
    "coverage-part": (("coverage",), "99.5%", "$.coverage: '99.5%' is no share"),
    "coverage-float": (("coverage",), 0.9, "$.coverage: 0.9 is no share"),
    "coverage-digits": (("coverage",), "100", "$.coverage: '100' is no share"),
    "coverage-true": (("coverage",), True, "$.coverage: true is no share"),
    "end-other": (("on_failure", "driver"), "ignore", "$.on_failure.driver: 'ignore' is nothing to"
                  " do with kubelet: write release or hold"),
    "end-true": (("on_failure", "verify"), True, "$.on_failure.verify: true is nothing to do"),
    "end-list": (("on_failure", "verify"), ["hold"], "$.on_failure.verify: a list is nothing"),
    "section-nothing": (("verify",), None, "$.verify: nothing is no mapping: write keys below it:"
                        " timeout, duplicates"),
    "unknown-close": (("driver", "comand"), "x", "$.driver.comand: unknown key: did you mean"
                      " command?"),
    "unknown-dash": (("on-failure",), {}, "$['on-failure']: unknown key: did you mean on_failure?"),
    "unknown-case": (("Verify",), {}, "$.Verify: unknown key: did you mean verify?"),
    "unknown-far": (("kubelet", "x"), 1, "$.kubelet.x: unknown key: known here are unit, deadman"),
    "unknown-misplaced": (("deadline",), "5m", "$.deadline: unknown key: known here are version,"),
    "unknown-odd": (("a\nb",), 1, "$['a\\nb']: unknown key"),
    "unknown-empty": (("",), 1, "$['']: unknown key"),
}  # fmt: skip
# What the schema cannot say, or says otherwise:
READ_MORE_STRICTLY: dict[str, tuple[Place, object, str]] = {
    # ranges of what a text says
    "duration-zero": (("driver", "deadline"), "0.0s", "$.driver.deadline: '0.0s' is too short:"
                      " write more than none, such as 5m"),
    "duration-absurd": (("driver", "deadline"), "25h", "$.driver.deadline: '25h' is longer than a"
                        " day: write less, such as 5m"),
    "duration-endless": (("driver", "deadline"), "9" * 400 + "h", "is longer than a day"),
    "deadman-short": (("kubelet", "deadman"), "59s", "$.kubelet.deadman: '59s' is too short: write"
                      " at least 60s, such as 15m"),
    # an altname is at most 127 bytes, a schema counts characters
    "name-in-bytes": (("masters", "names"), ["\u00e4" * 64], "$.masters.names[0]: "),
    # a pattern is not enough to tell an address
    "address-twice": (("require", "gateways"), ["fd00::1", "FD00:0::1"], "$.require.gateways[1]: "),
    # a NUL would cut a word short on its way to the kernel
    "nul-in-a-word": (("driver", "command"), ["x", "a\0b"], "$.driver.command[1]: 'a\\x00b' is no"),
    "nul-in-a-script": (("driver", "command"), "a\0b", "$.driver.command: a NUL in it"),
    # JSON Schema calls 1.0 an integer
    "version-with-a-point": (("version",), 1.0, "$.version: 1.0 is no version"),
    "coverage-with-a-point": (("coverage",), 90.0, "$.coverage: 90.0 is no share"),
}  # fmt: skip


def broken(place: Place, value: object) -> Any:
    if value is not ...:
        return changed(WHOLE, place, put(value))
    made = copy.deepcopy(WHOLE)
    inner: Any = made
    for step in place[:-1]:
        inner = inner[step]
    del inner[place[-1]]
    return made


@pytest.mark.parametrize(
    ("place", "value", "words"), [*BAD.values(), *READ_MORE_STRICTLY.values()],
    ids=[*BAD, *READ_MORE_STRICTLY],
)  # fmt: skip
def test_bad_value_is_one_line_with_its_place_and_the_remedy(
    place: Place, value: object, words: str
) -> None:
    (problem,) = problems_of(broken(place, value))
    assert words in problem
    assert len(problem) < 250


@pytest.mark.parametrize("document", [None, [], [MINIMAL], "text", 5, True], ids=str)
def test_document_that_is_no_mapping(document: object) -> None:
    (problem,) = problems_of(document)
    assert problem.startswith("$: ")
    assert "is no mapping: write keys below it: version, kubelet, driver" in problem


def test_all_problems_are_said_at_once_in_the_order_of_the_file() -> None:
    document = {
        "coverage": "all",
        "masters": {"names": ["a", "a/b", 5], "colour": "red", "deadline": 2},
        "driver": {"deadline": "soon"},
        "kubelet": {"unit": "x", "deadman": "1s"},
    }
    places = [problem.partition(": ")[0] for problem in problems_of(document)]
    assert places == [
        "$.coverage",
        "$.masters.names[1]",
        "$.masters.names[2]",
        "$.masters.colour",
        "$.masters.deadline",
        "$.driver.deadline",
        "$.driver.command",
        "$.kubelet.unit",
        "$.kubelet.deadman",
        "$.version",
    ]


def test_long_value_is_shown_in_part() -> None:
    (problem,) = problems_of({**MINIMAL, "coverage": "x" * 5000})
    assert "x…" in problem


RIGHT = "version: 1\ndriver: {command: [x]}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty: begin from an example in conf/"),
        ("- a\n", "$: a list is no mapping"),
        ("version: 1\nversion: 1\n", "line 2: key 'version' appears in line 1 already"),
        ("version: 1\ndriver:\n\tcommand: x\n", "line 3, column 1: "),
        ("version: 1\n---\nversion: 1\n", "line 2: a second document"),
        ("driver: &d {command: x}\n", "line 1: aliases"),
        (b"version: \xff\n", "not UTF-8 at byte 9"),
        (b"#" * (1 << 20), "longer than 65536 bytes"),
        (f"{RIGHT}verify: {{duplicates: yes}}\n", "$.verify.duplicates: 'yes' is neither"),
        (f"{RIGHT}on: 5\n", "$.on: unknown key"),
        (f"{RIGHT}kubelet:\n  deadman: 1:30\n", "$.kubelet.deadman: '1:30' is no duration"),
    ],
    ids=ascii,
)
def test_bad_file(tmp_path: Path, text: str | bytes, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(PlanError) as caught:
        read_plan(path)
    (found,) = caught.value.problems
    assert problem in found
    assert path in caught.value.msg


def test_unreadable_file(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(PlanError) as caught:
            read_plan(str(path))
        (problem,) = caught.value.problems
        assert why in problem
        assert str(path) in caught.value.msg


# --- the schema ---------------------------------------------------------------------------------


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("document", [MINIMAL, WHOLE, {**WHOLE, "kubelet": "none"}])
def test_good_plan_fits_the_schema(document: dict[str, Any]) -> None:
    VALIDATOR.validate(document)


def test_schema_has_the_readers_defaults() -> None:
    """A plan that writes out all the defaults of the schema is the plan without them."""
    document = copy.deepcopy(MINIMAL)
    for name, part in SCHEMA["properties"].items():
        for one in part.get("anyOf", [part]):
            for key, inner in one.get("properties", {}).items():
                if "default" in inner:
                    document.setdefault(name, {})[key] = inner["default"]
        if "default" in part:
            document.setdefault(name, part["default"])
    assert len([key for part in document.values() if isinstance(part, dict) for key in part]) == 15
    VALIDATOR.validate(document)
    assert {**asdict(plan_of(document)), "document": {}} == {
        **asdict(plan_of(MINIMAL)),
        "document": {},
    }


@pytest.mark.parametrize(
    ("place", "value"), [(place, value) for place, value, _ in BAD.values()], ids=list(BAD)
)
def test_bad_value_is_refused_by_the_schema_too(place: Place, value: object) -> None:
    assert not VALIDATOR.is_valid(broken(place, value))


@pytest.mark.parametrize(
    ("place", "value"), [(place, value) for place, value, _ in READ_MORE_STRICTLY.values()],
    ids=list(READ_MORE_STRICTLY),
)  # fmt: skip
def test_reading_is_stricter_than_the_schema(place: Place, value: object) -> None:
    assert VALIDATOR.is_valid(broken(place, value))


LISTED = changed(WHOLE, ("driver", "command"), put(["/sbin/x", "--yes", ""]))
PLACES = [*places_in(WHOLE), *places_in(LISTED)]
# No NUL, no float without a fraction, no duration out of range: READ_MORE_STRICTLY has them.
VALUES: st.SearchStrategy[Any] = st.sampled_from([
    None, True, False, 0, 1, 2, 100, 101, -1, 1.5, "", " ", "a", "a\n", "5m", "5m\n", "1.5h", "1.h",
    "5", "5 m", "100%", "099%", "0100%", "999%", "%", "50%\n", "none", "none\n", "hold", "release",
    "HOLD", "x.service", "x.service\n", "a@b.service", ".service", "-x.service", "/x", "/x/", "x/y",
    "/", "/x\n", "x\ny", "bond4", "x" * 16, ".", "a b", [], [[]], ["a"], ["a", "a"], ["a", 1],
    ["/a", ""], [""], {}, {"command": "x"}, {"unit": "x.service"}, {"deadline": "5m"},
    {"driver": "hold"},
]) | st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,2})?[smh%]", fullmatch=True)  # fmt: skip


def out_of_range(document: Any) -> bool:
    """Whether some duration is zero, too short for a dead man, or longer than a day."""
    found = []
    for place in places_in(document):
        value = document
        for step in place:
            value = value[step]
        match = re.fullmatch(r"([0-9.]+)([smh])", value) if isinstance(value, str) else None
        if match:
            seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
            least = 60 if place[-1] == "deadman" else 1e-9
            found.append(not least <= seconds <= 86400)
    return any(found)


@given(
    st.sampled_from([WHOLE, LISTED]), st.data(), st.sampled_from(MUTATIONS), VALUES | json_values
)
@examples(400)
def test_reader_and_schema_agree_on_mutated_documents(
    whole: Any, data: st.DataObject, mutation: Callable[[object], Change], value: object
) -> None:
    place = data.draw(st.sampled_from(list(places_in(whole))))
    document = changed(whole, place, mutation(value))
    text = json.dumps(document)
    if out_of_range(document) or "\\u0000" in text or re.search(r"[0-9]\.0\b|[0-9]e", text):
        assert VALIDATOR.is_valid(document) or not is_read(document)
    else:
        assert is_read(document) == VALIDATOR.is_valid(document)


# --- the published example ----------------------------------------------------------------------


def test_example_says_the_defaults() -> None:
    example = read_plan(str(EXAMPLE))
    VALIDATOR.validate(example.document)
    bare = plan_of({"version": 1, "driver": {"command": example.document["driver"]["command"]}})
    assert {**asdict(example), "document": {}} == {**asdict(bare), "document": {}}


def test_example_explains_every_key() -> None:
    """Each stands in it, if only commented, below a comment or beside one."""
    lines = EXAMPLE.read_text().splitlines()
    sections = {"kubelet": plan._KUBELET, "driver": plan._DRIVER, "masters": plan._MASTERS,
                "verify": plan._VERIFY, "require": plan._REQUIRE,
                "on_failure": plan._ON_FAILURE}  # fmt: skip
    keys = [(key, "") for key in plan._PLAN]
    keys += [(key, "  ") for keys_of in sections.values() for key in keys_of]
    assert len(keys) == 8 + 15
    for key, indent in keys:
        found = [n for n, line in enumerate(lines) if re.match(rf"{indent}(# )?{key}:", line)]
        assert found, key
        assert any("#" in lines[n] or lines[n - 1].lstrip().startswith("#") for n in found), key
    assert max(len(line) for line in lines) <= 100


# --- the command on this machine ----------------------------------------------------------------


def program(tmp_path: Path, text: bytes = b"#!/bin/sh\n", mode: int = 0o755) -> str:
    path = tmp_path / "upgrade-nic"
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    "command",
    [
        ("/bin/true",),
        ("true", "--yes"),
        ("/bin/sh", "-c", "rmmod i40e && modprobe i40e"),
        ("/bin/sh", "-c", "if true; then\n  modprobe i40e\nfi\n"),
        ("/bin/sh", "/some/script"),
    ],
    ids=" ".join,
)
def test_command_that_can_be_run(command: tuple[str, ...]) -> None:
    assert check_command(command) == ""


@pytest.mark.parametrize(
    "text", [b"#!/bin/sh\n", b"#! \t/usr/bin/env bash -x\n", b"echo of sh itself\n", b"#!\n", b""]
)
def test_script_that_can_be_run(tmp_path: Path, text: bytes) -> None:
    assert check_command((program(tmp_path, text), "--yes")) == ""


def test_program_is_looked_for_where_it_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engineer's own PATH is not that of the transient unit."""
    program(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_command(("true",)) == ""
    problem = check_command(("upgrade-nic",))
    assert problem == (
        f"'upgrade-nic' is not in {SEARCH_PATH}: install it, or write its absolute path"
    )


def test_program_that_cannot_be_run(tmp_path: Path) -> None:
    path = program(tmp_path, mode=0o644)
    assert check_command((path,)) == (
        f"'{path}' is not executable: give it the right with chmod +x"
    )
    assert check_command((f"{path}-2",)) == (
        f"'{path}-2' is not there: install it, or correct the path"
    )
    assert check_command((str(tmp_path),)) == f"'{tmp_path}' is no file: name a program"
    # As a text, where that begins with a plain path.
    assert check_command(("/bin/sh", "-c", f"{path} --yes")) == check_command((path,))
    assert check_command(("/bin/sh", "-c", f" {path}-2; true")) == check_command((f"{path}-2",))
    assert check_command(("/bin/sh", "-c", f"$HOME{path}; {path} || true")) == ""
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "is not there" in check_command((str(tmp_path / "dangling"),))
    os.mkfifo(tmp_path / "fifo", 0o755)
    assert "is no file" in check_command((str(tmp_path / "fifo"),))


@pytest.mark.parametrize(
    ("first", "named"),
    [(b"#!/usr/bin/python2\n", "/usr/bin/python2"), (b"#!/bin/sh\r\n", "/bin/sh\\r"),
     (b"#!\t/none -x", "/none")],
)  # fmt: skip
def test_script_whose_interpreter_is_not_there(tmp_path: Path, first: bytes, named: str) -> None:
    path = program(tmp_path, first)
    assert check_command((path,)) == (
        f"'{named}', which '{path}' begins with, is not there: install it, or correct the path"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [("if true", "1"), ("modprobe 'i40e", "1"), ("modprobe i40e\n\n)", "3"), ("-x", "0")],
)
def test_script_that_the_shell_cannot_read(text: str, line: str) -> None:
    problem = check_command(("/bin/sh", "-c", text))
    assert problem.startswith(f"/bin/sh: {line}: ")
    assert problem.endswith(": correct the text, and try it with /bin/sh -n -c")
    assert "\n" not in problem


def test_checking_a_script_does_not_run_it(tmp_path: Path) -> None:
    assert check_command(("/bin/sh", "-c", f"touch {tmp_path}/ran")) == ""
    assert not (tmp_path / "ran").exists()
