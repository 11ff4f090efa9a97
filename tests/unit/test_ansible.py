"""conf/ansible, as far as it can be read without ansible (tests/test_fleet.py plays it)."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.samples import REPOSITORY

ANSIBLE = REPOSITORY / "conf/ansible"
ROLE = ANSIBLE / "roles/cni_repair"
MODULE = ROLE / "library/cni_repair_upgrade.py"
OLDEST = (3, 8)  # of the Pythons that ansible-core 2.19 supports on hosts
FILES = sorted(ANSIBLE.rglob("*.yml"))
# What playbooks ask of the inventory: a play's own keywords know no defaults of roles.
OF_PLAYS = {"cni_repair_hosts", "cni_repair_become", "cni_repair_serial"}


def constants() -> dict[str, Any]:
    """What the module's file says at its top, without running it."""
    tree = ast.parse(MODULE.read_text(), feature_version=OLDEST)
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def test_module_needs_nothing_of_cni_repair() -> None:
    tree = ast.parse(MODULE.read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "ansible.module_utils.basic"}


def test_every_option_is_documented_as_it_is() -> None:
    told = constants()
    documented = yaml.safe_load(told["DOCUMENTATION"])["options"]
    assert documented.keys() == told["ARGUMENTS"].keys()
    for name, option in told["ARGUMENTS"].items():
        about = {key: documented[name].get(key) for key in ("type", "default", "elements")}
        assert about == {key: option.get(key) for key in about}, name
        assert documented[name].get("required", False) == option.get("required", False)


def test_examples_use_options_that_there_are() -> None:
    told = constants()
    tasks = [task["cni_repair_upgrade"] for task in yaml.safe_load(told["EXAMPLES"])]
    for file in FILES:
        documents = yaml.safe_load(file.read_text())
        known = documents if isinstance(documents, list) else []
        tasks += [task["cni_repair_upgrade"] for task in known if "cni_repair_upgrade" in task]
    assert len(tasks) == 4
    for task in tasks:
        assert task.keys() <= told["ARGUMENTS"].keys()


def test_every_variable_has_a_default() -> None:
    """And every default is of a variable that is used."""
    defaults = ROLE / "defaults/main.yml"
    used, own = set[str](), {"cni_repair_upgrade"}
    for file in (file for file in FILES if file != defaults):
        text = re.sub(r"^\s*#.*$", "", file.read_text(), flags=re.MULTILINE)
        used |= set(re.findall(r"\bcni_repair_\w+", text))
        own |= set(re.findall(r"register: (cni_repair_\w+)", text))
        own |= set(re.findall(r"^\s+(cni_repair_(?:tasks|installer)):", text, re.MULTILINE))
    assert used - own - OF_PLAYS == yaml.safe_load(defaults.read_text()).keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ANSIBLE)))
def test_tasks_have_names(file: Path) -> None:
    documents = yaml.safe_load(file.read_text())
    if isinstance(documents, list):
        assert [one for one in documents if "name" not in one] == []
