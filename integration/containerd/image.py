"""A container image of one static program: busybox, as the sandboxes' pause and for all else."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

IMAGE = "localhost/busybox:1"

_PROGRAMS = ("sh", "sleep", "ping", "cat", "nc", "httpd", "ip", "true", "false")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as Go calls them
# For a pause: it does nothing at all, for 68 years.
_ENTRY = ["/bin/busybox", "sleep", "2147483647"]


def write_image(busybox: Path, target: Path) -> None:
    """Write the image as a tar of the OCI image layout, which `ctr image import` reads."""
    layer = _layer(busybox.read_bytes())
    machine = os.uname().machine
    config = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Entrypoint": _ENTRY, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    kind = "application/vnd.oci.image"
    blobs = [layer, _json(config)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": _descriptor(f"{kind}.config.v1+json", blobs[1]),
        "layers": [_descriptor(f"{kind}.layer.v1.tar", blobs[0])],
    }
    blobs.append(_json(manifest))
    named = {"annotations": {"io.containerd.image.name": IMAGE}}
    entry = _descriptor(f"{kind}.manifest.v1+json", blobs[2]) | named
    files = {f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}": blob for blob in blobs}
    files["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
    files["index.json"] = _json({"schemaVersion": 2, "manifests": [entry]})
    with tarfile.open(target, "w") as archive:
        for name, data in files.items():
            _add(archive, name, data)


def _layer(busybox: bytes) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
        _add(archive, "bin/busybox", busybox, 0o755)
        for name in _PROGRAMS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return written.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()
