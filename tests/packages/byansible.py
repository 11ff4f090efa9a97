"""Ansible, and a Debian node that it reaches: the role of conf/ansible, with files of its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from integration.errors import RigError
from integration.fleet import controller
from integration.fleet.controller import Controller, Played
from tests.packages.debian import Debian

NAME = "node"


class Reached:
    """A node as ansible knows it, and the playbooks that are played over it."""

    def __init__(self, node: Debian, directory: Path, form: str) -> None:
        self.host = NAME
        self.shell = f'#!/bin/sh\nexec {shlex.join(node.entering())} /bin/sh "$@"\n'
        self._form = form
        self._controller = Controller(directory)
        self._controller.know([self], ansible_python_interpreter="/usr/bin/python3")
        # What ansible brings to the node it writes to a path of its own machine's, and reads by the
        # same path over there.
        here = directory / NAME / "tmp"
        there = node.path(str(here))
        there.mkdir(parents=True)
        here.symlink_to(there)

    def play(self, playbook: str, *words: str, **variables: Any) -> Played:
        known = {"cni_repair_form": self._form, "cni_repair_watch_service": False}
        return self._controller.play(playbook, {**known, **variables}, *words)

    def must(self, playbook: str, *words: str, **variables: Any) -> bool:
        """Play it to a good end; whether anything was changed."""
        played = self.play(playbook, *words, **variables)
        assert played.status == 0, played.said
        return bool(played.having("changed"))


@contextmanager
def reached(node: Debian, directory: Path, form: str) -> Iterator[Reached]:
    try:
        controller.prepare()
    except RigError as error:
        pytest.skip(f"no ansible here: {error}")
    yield Reached(node, directory, form)
