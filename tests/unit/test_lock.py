"""conf/requirements.lock: what install.sh takes from a package index, and nothing else.

To write it anew, after a change of pyproject.toml or for newer versions (add --upgrade):

    uv pip compile --universal --python-version 3.10 --generate-hashes --no-annotate \\
        --group build pyproject.toml -o conf/requirements.lock
"""

from __future__ import annotations

import re
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.samples import REPOSITORY

LOCK = REPOSITORY / "conf" / "requirements.lock"
PROJECT = REPOSITORY / "pyproject.toml"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
_PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>\S+)( ; (?P<marker>.+))?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries() -> list[list[str]]:
    """Each requirement of the lock: what is pinned, then its hashes."""
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace(" \\\n", "\n")
    return [[part.strip() for part in entry.splitlines()] for entry in re.split(r"\n(?=\S)", whole)]


def pinned(python: str) -> dict[str, str]:
    """Name to version, of what a machine with that Python gets."""
    environment = {
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    requirements = (Requirement(entry[0]) for entry in entries())
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in requirements
        if one.marker is None or one.marker.evaluate(environment)
    }


def list_in(section: str, key: str) -> list[str]:
    """A list of texts in pyproject.toml. (Python 3.10 has no reader of TOML.)"""
    text = PROJECT.read_text()
    body = re.split(r"\n\[", text[text.index(f"[{section}]\n") :], maxsplit=1)[0]
    (found,) = re.findall(rf"^{key} = \[(.*?)\](?: #.*)?$", body, re.DOTALL | re.MULTILINE)
    return re.findall(r'"([^"]+)"', re.sub(r'"[^"]*"|#.*', _without_comment, found))


def _without_comment(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else ""


def wanted(python: str) -> list[Requirement]:
    texts = (*list_in("project", "dependencies"), *list_in("build-system", "requires"))
    requirements = [Requirement(text) for text in texts]
    environment = {"python_version": python}
    return [one for one in requirements if not one.marker or one.marker.evaluate(environment)]


def test_each_is_pinned_and_has_hashes() -> None:
    assert len(entries()) > 10
    for what, *hashes in entries():
        assert _PIN.fullmatch(what), what
        assert hashes, what
        assert [one for one in hashes if not _HASH.fullmatch(one)] == [], what


@pytest.mark.parametrize("python", PYTHONS)
def test_what_pyproject_wants_is_pinned_to_a_version_that_it_takes(python: str) -> None:
    versions = pinned(python)
    for one in wanted(python):
        version = versions.get(canonicalize_name(one.name), "none")
        assert version in one.specifier, f"{one}: the lock has {version}"


def requires(name: str) -> list[Requirement]:
    """What a package that is installed for these tests requires on this machine."""
    try:
        found = [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:  # setuptools, which requires nothing
        return []
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def test_nothing_else_is_pinned() -> None:
    """Each is wanted by pyproject.toml, or by something that it wants."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    names = {canonicalize_name(one.name) for one in wanted(python)}
    todo = [*names]
    while todo:
        further = {canonicalize_name(one.name) for one in requires(todo.pop())} - names
        names |= further
        todo += further
    assert {*pinned(python)} == names


def test_the_build_group_is_what_builds() -> None:
    assert list_in("dependency-groups", "build") == list_in("build-system", "requires")


def test_it_says_how_it_was_made_and_names_no_index() -> None:
    text = LOCK.read_text()
    assert __doc__ is not None
    command = " ".join(__doc__.split("\n\n")[-1].replace("\\\n", " ").split())
    assert command in text
    assert "://" not in text
    assert "index" not in text
