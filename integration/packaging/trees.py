"""Debian systems to install the packages in: from the machine's own source, in the cache."""

from __future__ import annotations

from pathlib import Path

from integration.errors import RigError
from integration.packages import CACHE, locked_cache, made_whole, need_programs, run

SUITES = {12: "bookworm", 13: "trixie"}
# What the packages depend on, and what a node has; python3-apt is what ansible installs them with.
_PACKAGES = (
    "containernetworking-plugins",
    "iproute2",
    "procps",
    "python3",
    "python3-apt",
    "python3-jsonschema",
    "python3-prometheus-client",
    "python3-rich",
    "python3-yaml",
)
_EDITION = 2  # another one where anything else is done here


def debian(release: int) -> Path:
    """The tree of a Debian release, which is only to be read: lay something over it.

    Raises RigError where it cannot be made.
    """
    tree = CACHE / f"debian-{release}-{_EDITION}"
    with locked_cache(f"debian-{release}"):
        if not tree.exists():
            need_programs({"/usr/sbin/debootstrap": "debootstrap"})
            with made_whole(tree) as work:
                include = f"--include={','.join(_PACKAGES)}"
                target = str(work / "tree")
                run(
                    [
                        "debootstrap",
                        "--variant=minbase",
                        include,
                        SUITES[release],
                        target,
                        _mirror(),
                    ]
                )
                for archive in (work / "tree/var/cache/apt/archives").glob("*.deb"):
                    archive.unlink()
    return tree


def _mirror() -> str:
    """Where this machine has Debian's packages from."""
    shown = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"]
    for line in run([*shown, "Created-By: Packages"]).splitlines():
        origin, label, address = line.split(" ")
        if (origin, label) == ("Debian", "Debian"):
            return address
    raise RigError("this machine has no source of Debian's packages: it cannot bootstrap one")
