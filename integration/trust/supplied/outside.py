"""What the tools of others say: pip, pip-audit, and the validator of CycloneDX."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from integration.command import CHECKOUT
from integration.errors import RigError
from integration.trust.supplied.lock import LOCK, Pin

_PYTHON = "/usr/bin/python3"
_SECONDS = 900.0
# With the schemas, and what reads them.
_TOOLS = ("pip-audit", "cyclonedx-python-lib[json-validation]")
_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(str(error)[:500] if error else 0)
"""
_HASH_MISMATCH = "DO NOT MATCH THE HASHES"


class Unreachable(Exception):
    """What is needed could not be had from the network; the words say what."""


def run(*command: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=_SECONDS, check=False
    )


def environment(directory: Path) -> Path:
    """Make a virtual environment; its interpreter."""
    done = run(_PYTHON, "-I", "-m", "venv", directory)
    if done.returncode != 0:
        raise RigError(f"{_PYTHON} makes no virtual environment: apt-get install python3-venv")
    return directory / "bin" / "python3"


def refuses(python: Path, pin: Pin, directory: Path) -> str:
    """Offer pip another file of the pinned name and version; what it did, where it took it."""
    directory.mkdir()
    _write_wheel(directory, pin)
    lines = directory / "lock"
    lines.write_text(f"{pin.text.partition(';')[0]} {' '.join(pin.hashes)}\n")
    index = ("--no-index", "--find-links", directory)
    options = ("--isolated", "--no-deps", "--require-hashes", "-r", lines)
    target = directory / "target"
    done = run(python, "-I", "-m", "pip", "install", "--target", target, *index, *options)
    if done.returncode == 0 or target.exists():
        return "pip installed a file that has another hash"
    if _HASH_MISMATCH not in done.stderr:
        return f"pip did not speak of hashes: {done.stderr[-300:]}"
    return ""


def _write_wheel(directory: Path, pin: Pin) -> None:
    """A good wheel, but for its contents."""
    stem = f"{pin.name.replace('-', '_')}-{pin.version}"
    about = f"{stem}.dist-info"
    files = {
        "evil.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {pin.name}\nVersion: {pin.version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{name},{_digest(text)},{len(text)}" for name, text in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""])
    with zipfile.ZipFile(directory / f"{stem}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def installed(directory: Path) -> dict[str, Any]:
    """Have install.sh install below a directory; the bill of materials that it left there.

    Raises Unreachable; RigError where a hash is not the lock's.
    """
    prefix = directory / "prefix"
    done = run(CHECKOUT / "install.sh", "--prefix", prefix, "--bin-dir", directory / "bin")
    if _HASH_MISMATCH in done.stderr:
        raise RigError(f"the index has other files than the lock: {done.stderr[-1000:]}")
    if done.returncode != 0:
        raise Unreachable(f"install.sh: {' '.join(done.stderr.split())[-200:]}")
    bill: dict[str, Any] = json.loads((prefix / "current/share/cni-repair.cdx.json").read_text())
    return bill


class Tools:
    """pip-audit and the validator. Raises Unreachable."""

    def __init__(self, directory: Path) -> None:
        self._python = environment(directory)
        done = run(self._python, "-I", "-m", "pip", "install", "--quiet", *_TOOLS)
        if done.returncode != 0:
            raise Unreachable(f"{' '.join(_TOOLS)} cannot be had")

    def validate(self, bill: dict[str, Any]) -> str:
        """What is wrong with a bill of materials by CycloneDX's schema; empty where nothing is."""
        return run(self._python, "-I", "-c", _VALIDATE, stdin=json.dumps(bill)).stderr.strip()

    def audit(self) -> tuple[dict[str, list[str]], int]:
        """Vulnerabilities that are known, by what has them; and how many could be looked up.

        Raises Unreachable.
        """
        options = ("--disable-pip", "--progress-spinner=off", "--format=json")
        done = run(self._python, "-I", "-m", "pip_audit", "-r", LOCK, *options)
        try:
            found = json.loads(done.stdout)["dependencies"]
        except ValueError as error:
            raise Unreachable("no database of vulnerabilities answers") from error
        known = {
            one["name"]: [vuln["id"] for vuln in one["vulns"]] for one in found if "vulns" in one
        }
        if not known:
            raise Unreachable("the database of vulnerabilities knows none of the packages")
        return {name: ids for name, ids in known.items() if ids}, len(known)
