"""The watcher's configuration: what is read, what is refused and in which words; its schema."""

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
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cni_repair.base.errors import CONFIG
from cni_repair.base.frozen import replace
from cni_repair.watch import settings as reading
from cni_repair.watch.settings import (
    Settings,
    SettingsError,
    check_settings,
    default_settings,
    read_run_dir,
    read_settings,
    settings_of,
)
from tests.unit.documents import MUTATIONS, Change, Place, changed, places_in, put
from tests.unit.samples import REPOSITORY
from tests.unit.schemas import schema_of, validator_of
from tests.unit.strategies import json_values

SCHEMA = schema_of("cni_repair.watch", "watch.json")
VALIDATOR = validator_of(SCHEMA)
EXAMPLE = REPOSITORY / "conf" / "watch.yaml"

MINIMAL: dict[str, Any] = {"version": 1}
WHOLE: dict[str, Any] = {
    "version": 1,
    "checkpointDirs": ["/var/lib/a", "/var/lib/b"],
    "runDir": "/run/other",
    "heal": "drift",
    "holdKubelet": "onLoss",
    "kubelet": {"unit": "k3s.service", "deadline": "90s"},
    "metrics": {"textfile": "/var/lib/x/cni.prom", "listen": "127.0.0.1:9999"},
    "kubernetes": {"kubeconfig": "/var/lib/kubelet/kubeconfig"},
    "ipv6Detection": "kernel",
    "lookEvery": "30s",
    "rememberAfter": "0.5s",
    "backOff": {"first": "2s", "most": "1m"},
    "masterTimeout": "1.5s",
}
DEFAULTS = Settings(
    path="",
    checkpoint_dirs=("/var/lib/cni-repair/checkpoints",),
    run_dir="/run/cni-repair",
    heal="uplink",
    hold_kubelet="never",
    kubelet_unit="kubelet.service",
    kubelet_deadline=600.0,
    metrics_textfile="",
    metrics_listen="",
    kubeconfig="auto",
    ipv6_detection="beside",
    look_every=60.0,
    remember_after=10.0,
    back_off_first=1.0,
    back_off_most=300.0,
    master_timeout=10.0,
)


def written(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "watch.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return str(path)


def problems_of(document: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        settings_of(document)
    assert caught.value.code == CONFIG
    assert not any("\n" in problem for problem in caught.value.problems)
    return caught.value.problems


def is_read(document: object) -> bool:
    try:
        settings_of(document)
    except SettingsError:
        return False
    return True


# --- read ---------------------------------------------------------------------------------------


def test_defaults() -> None:
    assert settings_of(MINIMAL) == default_settings() == DEFAULTS


def test_every_key() -> None:
    assert settings_of(WHOLE, "/etc/x.yaml") == Settings(
        path="/etc/x.yaml",
        checkpoint_dirs=("/var/lib/a", "/var/lib/b"),
        run_dir="/run/other",
        heal="drift",
        hold_kubelet="onLoss",
        kubelet_unit="k3s.service",
        kubelet_deadline=90.0,
        metrics_textfile="/var/lib/x/cni.prom",
        metrics_listen="127.0.0.1:9999",
        kubeconfig="/var/lib/kubelet/kubeconfig",
        ipv6_detection="kernel",
        look_every=30.0,
        remember_after=0.5,
        back_off_first=2.0,
        back_off_most=60.0,
        master_timeout=1.5,
    )


def test_a_path_is_told_as_the_kernel_names_it() -> None:
    made = settings_of({**MINIMAL, "runDir": "/run//x/", "checkpointDirs": ["/a/", "/b"]})
    assert (made.run_dir, made.checkpoint_dirs) == ("/run/x", ("/a", "/b"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.1.2.3:65535", "[::1]:9732"])
def test_a_loopback_address(address: str) -> None:
    assert settings_of({**MINIMAL, "metrics": {"listen": address}}).metrics_listen == address


def test_a_file(tmp_path: Path) -> None:
    """`off` and `127.0.0.1:9732` are texts, as they stand."""
    text = "version: 1\nheal: off\nmetrics:\n  listen: 127.0.0.1:9732\n"
    path = written(tmp_path, text)
    expected = replace(DEFAULTS, path=path, heal="off", metrics_listen="127.0.0.1:9732")
    assert read_settings(path) == check_settings(path) == expected


# --- refused ------------------------------------------------------------------------------------

BAD: dict[str, tuple[Place, object, str]] = {
    "version-newer": (("version",), 2, "$.version: 2 is no version that is read here: write 1"),
    "version-text": (("version",), "1", "$.version: '1' is no version"),
    "dirs-text": (("checkpointDirs",), "/a", "$.checkpointDirs: '/a' is no list of directories:"
                  " write [/var/lib/cni-repair/checkpoints]"),
    "dirs-none": (("checkpointDirs",), [], "$.checkpointDirs: nothing is no list of directories"),
    "dirs-relative": (("checkpointDirs",), ["/a", "b"], "$.checkpointDirs[1]: 'b' is no absolute"
                      " path: write one, without . and .., such as /var/lib/cni-repair"),
    "dirs-number": (("checkpointDirs",), [5], "$.checkpointDirs[0]: 5 is no absolute path"),
    "dirs-twice": (("checkpointDirs",), ["/a", "/a"], "$.checkpointDirs[1]: '/a' stands twice"),
    "run-relative": (("runDir",), "run/x", "$.runDir: 'run/x' is no absolute path: write one,"
                     " without . and .., such as /run/cni-repair"),
    "run-empty": (("runDir",), "", "$.runDir: '' is no absolute path"),
    "run-root": (("runDir",), "/", "$.runDir: '/' is no absolute path"),
    "run-up": (("runDir",), "/run/../etc", "$.runDir: '/run/../etc' is no absolute path"),
    "run-dot": (("runDir",), "/run/.", "$.runDir: '/run/.' is no absolute path"),
    "run-two-slashes": (("runDir",), "//run/x", "$.runDir: '//run/x' is no absolute path"),
    "run-newline": (("runDir",), "/run/x\ny", "$.runDir: '/run/x\\ny' is no absolute path"),
    "run-nul": (("runDir",), "/run/x\0", "$.runDir: '/run/x\\x00' is no absolute path"),
    "run-home": (("runDir",), "~/x", "$.runDir: '~/x' is no absolute path"),
    "run-long": (("runDir",), "/" + "x" * 4096, "$.runDir: '/xxx"),
    "run-nothing": (("runDir",), None, "$.runDir: nothing is no absolute path"),
    "heal-on": (("heal",), "on", "$.heal: 'on' is not known: write uplink, drift or off"),
    "heal-false": (("heal",), False, "$.heal: false is not known: write uplink, drift or off"),
    "heal-case": (("heal",), "Drift", "$.heal: 'Drift' is not known"),
    "heal-list": (("heal",), ["uplink"], "$.heal: a list is not known"),
    "hold-always": (("holdKubelet",), "always", "$.holdKubelet: 'always' is not known: write never"
                    " or onLoss"),
    "unit-bare": (("kubelet", "unit"), "kubelet", "$.kubelet.unit: 'kubelet' is no service: write"
                  " its unit's name, as kubelet.service"),
    "unit-option": (("kubelet", "unit"), "--now.service", "$.kubelet.unit: '--now.service' is no"),
    "deadline-bare": (("kubelet", "deadline"), 600, "$.kubelet.deadline: 600 is no duration: write"
                      " a number with s, m or h, such as 10m"),
    "textfile-relative": (("metrics", "textfile"), "x.prom", "$.metrics.textfile: 'x.prom' is no"
                          " absolute path: write one, without . and .., such as /var/lib/pro"),
    "textfile-name": (("metrics", "textfile"), "/x/cni.txt", "$.metrics.textfile: '/x/cni.txt' is"
                      " read by no node_exporter: give it a name in .prom"),
    "textfile-slash": (("metrics", "textfile"), "/x.prom/", "'/x.prom/' is read by no"),
    "textfile-directory": (("metrics", "textfile"), "/x/", "$.metrics.textfile: '/x/' is read by"),
    "listen-everywhere": (("metrics", "listen"), "0.0.0.0:9732", "$.metrics.listen: '0.0.0.0:9732'"
                          " is reached from outside, and metrics are served to everybody who asks:"
                          " write 127.0.0.1:9732, and put a proxy before it"),
    "listen-outside": (("metrics", "listen"), "10.1.2.3:9732", "'10.1.2.3:9732' is reached from"),
    "listen-outside-6": (("metrics", "listen"), "[::]:9732", "'[::]:9732' is reached from"),
    "listen-bare": (("metrics", "listen"), "127.0.0.1", "$.metrics.listen: '127.0.0.1' is no"
                    " ADDRESS:PORT: write one, such as 127.0.0.1:9732"),
    "listen-port": (("metrics", "listen"), 9732, "$.metrics.listen: 9732 is no ADDRESS:PORT"),
    "listen-any": (("metrics", "listen"), ":9732", "$.metrics.listen: ':9732' is no ADDRESS:PORT"),
    "listen-name": (("metrics", "listen"), "localhost:1", "'localhost:1' is no ADDRESS:PORT"),
    "listen-bare-6": (("metrics", "listen"), "::1:9732", "'::1:9732' is no ADDRESS:PORT"),
    "listen-zero": (("metrics", "listen"), "127.0.0.1:0", "'127.0.0.1:0' is no ADDRESS:PORT"),
    "listen-octal": (("metrics", "listen"), "127.0.0.1:01", "'127.0.0.1:01' is no ADDRESS:PORT"),
    "listen-digits": (("metrics", "listen"), "127.0.0.1:\u0661", "is no ADDRESS:PORT"),
    "listen-octets": (("metrics", "listen"), "127.0.1:80", "'127.0.1:80' has no IP address"),
    "metrics-text": (("metrics",), "/x.prom", "$.metrics: '/x.prom' is no mapping: write keys below"
                     " it: textfile, listen"),
    "kubeconfig-word": (("kubernetes", "kubeconfig"), "yes", "$.kubernetes.kubeconfig: 'yes' is not"
                        " known: write auto, never, or an absolute path such as /etc/kubernetes/"),
    "kubeconfig-list": (("kubernetes", "kubeconfig"), ["auto"], "$.kubernetes.kubeconfig: a list"),
    "detection-off": (("ipv6Detection",), "off", "$.ipv6Detection: 'off' is not known: write beside"
                      " or kernel"),
    "look-true": (("lookEvery",), True, "$.lookEvery: true is no duration: write a number with s"),
    "remember-days": (("rememberAfter",), "1d", "$.rememberAfter: '1d' is no duration"),
    "back-off-number": (("backOff",), 5, "$.backOff: 5 is no mapping: write keys below it: first,"),
    "back-off-first": (("backOff", "first"), "1 s", "$.backOff.first: '1 s' is no duration"),
    "unknown-case": (("holdkubelet",), "never", "$.holdkubelet: unknown key: did you mean"
                     " holdKubelet?"),
    "unknown-snake": (("run_dir",), "/x", "$.run_dir: unknown key: did you mean runDir?"),
    "unknown-one-dir": (("checkpointDir",), "/x", "$.checkpointDir: unknown key: did you mean"
                        " checkpointDirs?"),
    "unknown-inner": (("metrics", "textFile"), "", "$.metrics.textFile: unknown key: did you mean"
                      " textfile?"),
    "unknown-far": (("colour",), "red", "$.colour: unknown key: known here are version,"),
}  # fmt: skip
# What the schema cannot say, or says otherwise:
READ_MORE_STRICTLY: dict[str, tuple[Place, object, str]] = {
    "deadline-zero": (("kubelet", "deadline"), "0s", "$.kubelet.deadline: '0s' is too short"),
    "deadline-absurd": (("kubelet", "deadline"), "25h", "is longer than a day"),
    "look-short": (("lookEvery",), "0.5s", "$.lookEvery: '0.5s' is too short: write at least 1s"),
    "back-off-less": (("backOff", "most"), "1s", "$.backOff.most: it is less than first (2s)"),
    "dirs-same": (("checkpointDirs",), ["/a", "/a/"], "$.checkpointDirs[1]: '/a' stands twice"),
    "path-in-bytes": (("runDir",), "/" + "\u00e4" * 2048, "is no absolute path"),
    "port-many": (("metrics", "listen"), "127.0.0.1:65536", "is no ADDRESS:PORT"),
    "octet-many": (("metrics", "listen"), "127.0.0.256:80", "has no IP address"),
    "version-with-a-point": (("version",), 1.0, "$.version: 1.0 is no version"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "words"), [*BAD.values(), *READ_MORE_STRICTLY.values()],
    ids=[*BAD, *READ_MORE_STRICTLY],
)  # fmt: skip
def test_bad_value_is_one_line_with_its_place_and_the_remedy(
    place: Place, value: object, words: str
) -> None:
    (problem,) = problems_of(changed(WHOLE, place, put(value)))
    assert words in problem
    assert len(problem) < 250


def test_version_is_needed() -> None:
    assert problems_of({}) == ("$.version: missing: write version: 1",)


@pytest.mark.parametrize("document", [None, [], "text", 5], ids=str)
def test_document_that_is_no_mapping(document: object) -> None:
    (problem,) = problems_of(document)
    assert "is no mapping: write keys below it: version, checkpointDirs" in problem


def test_all_problems_are_said_at_once() -> None:
    document = {"heal": 1, "metrics": {"listen": "x", "textfile": "y"}, "runDir": ".", "odd": 1}
    places = [problem.partition(": ")[0] for problem in problems_of(document)]
    assert places == [
        "$.heal", "$.metrics.listen", "$.metrics.textfile", "$.runDir", "$.odd", "$.version",
    ]  # fmt: skip


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty: begin from an example in conf/"),
        ("version: 1\nheal: upl\nheal: off\n", "line 3: key 'heal' appears in line 2 already"),
        ("version: 1\nmetrics:\n\tlisten: x\n", "line 3, column 1: "),
        ("version: 1\nmetrics: {listen: [::1]:1}\n", "line 2"),
        ("version: 1\nheal: 'dri", "line 2"),
        ("version: 1\n---\nversion: 1\n", "line 2: a second document"),
        ("version: &v 1\n", "line 1: aliases"),
        ("!!python/object/apply:os.system [x]\n", "line 1: the tag"),
        (b"version: \xff\n", "not UTF-8 at byte 9"),
        (b"#" * (1 << 20), "longer than 65536 bytes"),
        ("[" * 5000, "nested deeper"),
        ("version: 1\nheal: no\n", "$.heal: 'no' is not known"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_torn_or_hostile_file(tmp_path: Path, text: str | bytes, problem: str) -> None:
    path = written(tmp_path, text)
    for read in (read_settings, check_settings):
        with pytest.raises(SettingsError) as caught:
            read(path)
        (found,) = caught.value.problems
        assert problem in found
        assert path in caught.value.msg


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file or directory: name a file that is there"),
        (lambda path: path.mkdir(), "it is not a regular file: name one that is"),
        (os.mkfifo, "it is not a regular file: name one that is"),
        (lambda path: path.symlink_to("/dev/zero"), "it is not a regular file: name one that is"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
    ids=["absent", "directory", "fifo", "device", "circle"],
)
def test_what_is_no_file(tmp_path: Path, make: Any, why: str) -> None:
    path = tmp_path / "watch.yaml"
    make(path)
    with pytest.raises(SettingsError) as caught:
        read_settings(str(path))
    assert why in caught.value.problems[0]


@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_a_file_that_others_may_write_to_is_not_followed(tmp_path: Path, mode: int) -> None:
    """But judged: it may be on a laptop."""
    path = written(tmp_path, "version: 1\n")
    os.chmod(path, mode)
    with pytest.raises(SettingsError) as caught:
        read_settings(path)
    (problem,) = caught.value.problems
    assert f"others may write to it (mode {mode:04o}): chown root:root {path}" in problem
    assert check_settings(path).heal == "uplink"


@pytest.mark.needs_root
def test_a_file_of_another_user_is_not_followed(tmp_path: Path) -> None:
    path = written(tmp_path, "version: 1\n")
    os.chown(path, 1000, 1000)
    with pytest.raises(SettingsError) as caught:
        read_settings(path)
    assert "it belongs to uid 1000" in caught.value.problems[0]


def test_a_mounted_config_map_is_followed(tmp_path: Path) -> None:
    """As Kubernetes mounts one: by way of two symbolic links."""
    data = tmp_path / "..2026"
    data.mkdir()
    written(data, "version: 1\nheal: off\n")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "watch.yaml").symlink_to("..data/watch.yaml")
    assert read_settings(str(tmp_path / "watch.yaml")).heal == "off"


@pytest.mark.parametrize(
    ("text", "run_dir"),
    [
        ("version: 7\nheal: x\nrunDir: /run/y\n", "/run/y"),
        ("version: 1\n", "/run/cni-repair"),
        ("- a\n", "/run/cni-repair"),
    ],
)
def test_the_run_directory_of_a_file_with_other_mistakes(
    tmp_path: Path, text: str, run_dir: str
) -> None:
    assert read_run_dir(written(tmp_path, text)) == run_dir


@pytest.mark.parametrize("text", ["runDir: x\n", "runDir: '\n"])
def test_a_run_directory_that_nobody_can_tell(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError):
        read_run_dir(written(tmp_path, text))


# --- the schema ---------------------------------------------------------------------------------


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("document", [MINIMAL, WHOLE])
def test_good_document_fits_the_schema(document: dict[str, Any]) -> None:
    VALIDATOR.validate(document)


def test_schema_has_the_readers_defaults() -> None:
    document = copy.deepcopy(MINIMAL)
    for name, part in SCHEMA["properties"].items():
        for key, inner in part.get("properties", {}).items():
            document.setdefault(name, {})[key] = inner["default"]
        if "default" in part:
            document.setdefault(name, part["default"])
    assert document.keys() == SCHEMA["properties"].keys() == reading.KEYS
    VALIDATOR.validate(document)
    assert settings_of(document) == DEFAULTS


@pytest.mark.parametrize(
    ("place", "value"), [(place, value) for place, value, _ in BAD.values()], ids=list(BAD)
)
def test_bad_value_is_refused_by_the_schema_too(place: Place, value: object) -> None:
    assert not VALIDATOR.is_valid(changed(WHOLE, place, put(value)))


@pytest.mark.parametrize(
    ("place", "value"), [(place, value) for place, value, _ in READ_MORE_STRICTLY.values()],
    ids=list(READ_MORE_STRICTLY),
)  # fmt: skip
def test_reading_is_stricter_than_the_schema(place: Place, value: object) -> None:
    assert VALIDATOR.is_valid(changed(WHOLE, place, put(value)))


VALUES: st.SearchStrategy[Any] = st.sampled_from([
    None, True, 0, 1, 2, "", "a", "off", "uplink\n", "never", "onLoss", "kernel", "x.service", "/",
    "/a", "/a/", "//a", "/a//b", "/..", "/...", "/a/.", "/.a", "/a.prom", "/a.prom/", "/a\n.prom",
    "127.0.0.1:1", "127.0.0.1:01", "127.0.0.1:1\n", "[::1]:80", "[::2]:80", [], ["/a"], ["/a", "/"],
    ["/a", 1], {}, {"first": "1s"}, {"unit": "x.service"}, {"listen": ""}, "5s", "5", "5m\n",
])  # fmt: skip


def is_beyond_the_schema(document: Any) -> bool:
    """Whether it may have something of what READ_MORE_STRICTLY has."""
    text = json.dumps(document)
    seconds = [
        float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
        for number, unit in re.findall(r'"([0-9]+(?:\.[0-9]+)?)([smh])"', text)
    ]
    dirs = document.get("checkpointDirs")
    return (
        any(not 0.5 <= one <= 86400 for one in seconds)
        or document.get("backOff") != WHOLE["backOff"]
        or (isinstance(dirs, list) and len(dirs) > 2)
        or re.search(r"[0-9]\.0\b|[0-9]e", json.dumps(document.get("version"))) is not None
    )


@given(st.data(), st.sampled_from(MUTATIONS), VALUES | json_values)
@hypothesis_settings(max_examples=400)
def test_reader_and_schema_agree_on_mutated_documents(
    data: st.DataObject, mutation: Callable[[object], Change], value: object
) -> None:
    place = data.draw(st.sampled_from(list(places_in(WHOLE))))
    document = changed(WHOLE, place, mutation(value))
    if is_beyond_the_schema(document):
        assert VALIDATOR.is_valid(document) or not is_read(document)
    else:
        assert is_read(document) == VALIDATOR.is_valid(document)


@given(json_values | st.dictionaries(st.sampled_from(sorted(reading.KEYS)), json_values))
def test_whatever_a_document_holds_it_is_read_or_refused(document: Any) -> None:
    is_read(document)


# --- the published example ----------------------------------------------------------------------


def test_example_says_the_defaults() -> None:
    assert check_settings(str(EXAMPLE)) == replace(DEFAULTS, path=str(EXAMPLE))


def test_example_explains_every_key() -> None:
    """Each stands in it, below a comment or beside one."""
    lines = EXAMPLE.read_text().splitlines()
    sections = [reading._KUBELET, reading._METRICS, reading._KUBERNETES, reading._BACK_OFF]
    keys = [(key, "") for key in reading._SETTINGS]
    keys += [(key, "  ") for keys_of in sections for key in keys_of]
    assert len(keys) == 13 + 7
    for key, indent in keys:
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"{indent}{key}:")]
        assert " # " in lines[at] or lines[at - 1].lstrip().startswith("#"), key
