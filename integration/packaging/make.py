"""Builds packages of cni-repair: the same checkout gives the same bytes, whoever builds, and when.

The files' times are the commit's (or SOURCE_DATE_EPOCH). What is not in the checkout comes from a
package index by the hashes in conf/requirements.lock, and the tools of the build by those in
integration/packaging/tools.lock.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from integration.errors import RigError
from integration.packaging import packages
from integration.packaging.bundle.bundle import write_bundle
from integration.packaging.bundle.image import write_image
from integration.packaging.source import CHECKOUT, Source, read_source, write_sums

# A form, and what writes it: it gets the source, a directory to work in, which is the same for all
# forms, and one for the result.
FORMS: dict[str, Callable[[Source, Path, Path], Path]] = {
    "deb": packages.write_deb,
    "rpm": packages.write_rpm,
    "bundle": write_bundle,
    "image": write_image,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is asked for; 0, or 2 where it cannot be done on this machine."""
    options = _parse(arguments)
    try:
        source = read_source(options.source.resolve())
        _make_directory(options.out)
        with tempfile.TemporaryDirectory(prefix="cni-repair-packaging-") as work:
            for form in options.form or FORMS:
                print(FORMS[form](source, Path(work), options.out), flush=True)
        print(write_sums(options.out))
    except (RigError, OSError) as error:
        print(f"make-packages: {error}", file=sys.stderr)
        return 2
    return 0


def _make_directory(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RigError(f"cannot make {out}: {error.strerror}: give another --out") from error


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make-packages", description="Builds packages of cni-repair from this checkout."
    )
    parser.add_argument(
        "form", nargs="*", metavar="FORM", help=f"{', '.join(FORMS)} (default: all of them)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("dist"), metavar="DIR",
        help="where the packages go, and SHA256SUMS of all that is there (default: dist)",
    )  # fmt: skip
    parser.add_argument(
        "--source", type=Path, default=CHECKOUT, metavar="DIR", help="another checkout's packages"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.form if name not in FORMS]
    if unknown:
        parser.error(f"there is no form {unknown[0]}: choose from {', '.join(FORMS)}")
    return options
