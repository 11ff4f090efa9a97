"""What is done before each commit is what `tests/run --lint` does."""

from __future__ import annotations

import re

import yaml

from tests.unit.samples import REPOSITORY

CONFIG = REPOSITORY / ".pre-commit-config.yaml"


def test_hooks_are_the_linters_of_the_test_command() -> None:
    (repository,) = yaml.safe_load(CONFIG.read_text())["repos"]
    assert repository["repo"] == "local"
    hooks = {hook["entry"].replace(" --force-exclude", "") for hook in repository["hooks"]}
    lines = re.findall(r"^    check (.+)$", (REPOSITORY / "tests" / "run").read_text(), re.M)
    linters = [line.replace('"$VENV', ".venv").replace('"', "") for line in lines]
    assert hooks == {line.removesuffix(" ${scripts[@]}") for line in linters}
    assert all(hook["language"] == "system" for hook in repository["hooks"])


def test_nothing_is_fetched() -> None:
    assert "://" not in CONFIG.read_text()
