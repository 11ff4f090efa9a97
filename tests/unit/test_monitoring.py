"""The files for Prometheus, Grafana, node-problem-detector: what they name is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_repair.cli.parser import make_parser
from cni_repair.watch.exposition import RESULTS, TRIGGERS, Exposition
from cni_repair.watch.problems import MOST_BYTES, SUBJECTS
from tests.unit.samples import REPOSITORY
from tests.unit.test_metrics import DOCUMENT, samples

CONF = REPOSITORY / "conf"
MANUAL = REPOSITORY / "cni_repair/manual/monitoring.md"
ALERTS = {
    "PodNetworkLost", "PodUplinkDown", "PodNetworkNotRestorable", "KubeletHeld",
    "CniRepairNotLooking",
}  # fmt: skip
# Prometheus' own, and node_exporter's.
OTHERS_METRICS = {"up", "node_exporter_build_info"}
TARGETS_LABELS = {"instance", "job"}
# What stands before a parenthesis, or in one, and is no label.
_LABEL_LISTS = re.compile(r"\b(?:by|without|on|ignoring) \(([^)]*)\)")
_SELECTOR = re.compile(r"([a-z_]+)\{([^}]*)\}")


def exported() -> dict[str, set[str]]:
    """The labels of every sample by its name."""
    exposition = Exposition("0.1.0")
    exposition.observe(DOCUMENT)
    found = samples(exposition.text().decode())
    return {
        name: {label for labels in series for label, _ in labels} for name, series in found.items()
    }


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((CONF / "prometheus/alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((CONF / "grafana/dashboard.json").read_text())[
        "panels"
    ]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and what it is."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def names_in(expression: str) -> set[str]:
    without_labels = _SELECTOR.sub(r"\1", _LABEL_LISTS.sub("", expression))
    return set(re.findall(r"\b(?:cni_repair_\w+|node_\w+|up)\b", without_labels))


every_expression = pytest.mark.parametrize(
    ("where", "expression"), [*expressions()], ids=lambda text: text[:40]
)


@every_expression
def test_metrics_and_labels_of_an_expression_are_exported(where: str, expression: str) -> None:
    known = exported()
    names = names_in(expression)
    assert names, where
    assert names - known.keys() - OTHERS_METRICS == set()
    labels = set().union(*(known.get(name, set()) for name in names)) | TARGETS_LABELS
    listed = {
        label.strip() for inside in _LABEL_LISTS.findall(expression) for label in inside.split(",")
    }
    assert listed - labels == set()
    for name, matchers in _SELECTOR.findall(expression):
        matched = set(re.findall(r"(\w+)(?:=~|=|!~|!=)", matchers))
        assert matched - known[name] - TARGETS_LABELS == set()


def test_every_metric_is_explained_with_its_labels() -> None:
    page = MANUAL.read_text()
    for name, labels in exported().items():
        base = re.sub(r"_(?:bucket|count|sum)$", "", name)
        if base == name and labels:
            first = {"attachments": "network,state", "repairs_total": "result,trigger"}
            inside = first.get(name.removeprefix("cni_repair_"), ",".join(labels))
            assert f"| `{name}{{{inside}}}` |" in page
        else:
            assert f"| `{base}`" in page
    told = set(re.findall(r"cni_repair_\w+", page))
    assert {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in exported()} == told
    for word in (*RESULTS, *TRIGGERS[::2]):
        assert re.search(rf"\b{word}\b", page)


def test_every_metric_is_on_the_dashboard() -> None:
    drawn = {
        name
        for panel in panels()
        for target in panel["targets"]
        for name in names_in(target["expr"])
    }
    assert exported().keys() == drawn


def test_alerts_say_what_is_wrong_and_what_to_type() -> None:
    assert {rule["alert"] for rule in rules()} == ALERTS
    page = MANUAL.read_text()
    for rule in rules():
        annotations = rule["annotations"]
        assert annotations.keys() == {"summary", "description", "runbook"}
        assert "{{ $labels.instance }}" in annotations["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert f"| {rule['alert']} |" in page and f"### {rule['alert']}\n" in page
        for command in re.findall(r"cni-repair [a-z][^;]*", annotations["runbook"]):
            words = command.split(",")[0].split()[1:]
            assert make_parser(words).parse_args(words)  # exits where there is no such command


def test_every_alert_is_tested() -> None:
    text = (CONF / "prometheus/alerts_test.yaml").read_text()
    assert [name for name in ALERTS if name not in text] == []


def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


# --- node-problem-detector: pkg/custompluginmonitor/types, which ends where it is not so ----------

_KEYS = {
    "": {"plugin", "pluginConfig", "source", "metricsReporting", "conditions", "rules"},
    "pluginConfig": {
        "invoke_interval", "timeout", "max_output_length", "concurrency",
        "enable_message_change_based_condition_update", "skip_initial_status",
    },
    "conditions": {"type", "reason", "message"},
    "rules": {"type", "condition", "reason", "path", "args", "timeout", "invoke_interval"},
}  # fmt: skip
_DURATION = re.compile(r"(\d+)(s|m)")


def seconds(text: str) -> int:
    match = _DURATION.fullmatch(text)
    assert match, text
    return int(match[1]) * (60 if match[2] == "m" else 1)


def monitor() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CONF / "npd/cni-repair.json").read_text())
    return found


def test_monitor_is_as_the_detector_reads_it() -> None:
    document = monitor()
    assert document["plugin"] == "custom"
    assert document.keys() <= _KEYS[""]
    assert document["pluginConfig"].keys() <= _KEYS["pluginConfig"]
    for part in ("conditions", "rules"):
        for one in document[part]:
            assert one.keys() <= _KEYS[part]
    assert document["pluginConfig"]["max_output_length"] == MOST_BYTES
    conditions = {condition["type"] for condition in document["conditions"]}
    told_by_rules = [rule["condition"] for rule in document["rules"] if "condition" in rule]
    # Two rules of one condition would take it from each other at every turn.
    assert sorted(told_by_rules) == sorted(conditions)
    for rule in document["rules"]:
        assert (rule["type"] == "permanent") == ("condition" in rule)
        assert rule["type"] in ("permanent", "temporary")
        assert seconds(rule["timeout"]) <= seconds(document["pluginConfig"]["timeout"])


def test_monitor_asks_for_each_subject_by_a_command_that_is_there() -> None:
    script = (REPOSITORY / "install.sh").read_text()
    asked = []
    for rule in monitor()["rules"]:
        directory, _, name = rule["path"].rpartition("/")
        assert (f"DEFAULT_BIN_DIR={directory}\n" in script, name) == (True, "cni-repair")
        options = make_parser(rule["args"]).parse_args(rule["args"])
        asked += options.subjects
    assert sorted(asked) == sorted(SUBJECTS)


def test_monitors_words_are_explained() -> None:
    page = MANUAL.read_text()
    document = monitor()
    for one in (*document["conditions"], *document["rules"]):
        if "path" in one or "message" in one:
            word = one["type"] if "message" in one else one["reason"]
            assert word in page, word


def test_paths_of_the_page_are_there() -> None:
    for path in re.findall(r"`(?:promtool test rules\s+)?(conf/[\w/.]+)`", MANUAL.read_text()):
        assert Path(REPOSITORY, path).exists(), path
