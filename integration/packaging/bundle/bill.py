"""What the bundle brings beside Python packages, for its bill of materials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from integration.packaging.bundle.inputs import DEBIAN, Deb


def components(debs: Iterable[Deb]) -> list[dict[str, Any]]:
    """CycloneDX's, of Debian's packages: CPython, libc, and the libraries that they need."""
    return [
        {
            "type": "library",
            "bom-ref": deb.purl,
            "name": deb.name,
            "version": deb.version,
            "purl": deb.purl,
            "hashes": [{"alg": "SHA-256", "content": deb.sha256}],
            "licenses": [{"expression": DEBIAN[deb.name]}],
        }
        for deb in debs
    ]
