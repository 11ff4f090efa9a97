"""Which container a cgroup names: what runtimes and cgroup drivers make of an id."""

from __future__ import annotations

import pytest

from cni_repair.checkpoint.identity import names_container

ID = "c4719afa76fa0123456789abcdef0123456789abcdef0123456789abcdef0123"
OTHER = "612f7a0edd330123456789abcdef0123456789abcdef0123456789abcdef0123"
UUID = "0f6a1b1e-7c62-4f0e-9a58-3b7f8f1d2c44"
POD = "kubepods-besteffort-pod6c1c0f4e_3d1b_4a6c_9d52_5c1f0a4e7b11.slice"
V1 = f"""12:pids:/kubepods/besteffort/pod6c1c0f4e/{ID}
11:cpuset,cpu:/kubepods/besteffort/pod6c1c0f4e/{ID}
1:name=systemd:/kubepods/besteffort/pod6c1c0f4e/{ID}
0::/
"""


@pytest.mark.parametrize(
    "cgroups",
    [
        f"0::/kubepods.slice/kubepods-besteffort.slice/{POD}/cri-containerd-{ID}.scope",
        f"0::/kubepods.slice/kubepods-besteffort.slice/{POD}/crio-{ID}.scope",
        f"0::/kubepods.slice/kubepods-besteffort.slice/{POD}/crio-{ID}.scope/container",
        f"0::/kubepods.slice/kubepods-besteffort.slice/{POD}/docker-{ID}.scope",
        f"0::/kubepods/besteffort/pod6c1c0f4e/{ID}",
        f"0::/kubepods/besteffort/pod6c1c0f4e/crio-{ID}",
        f"0::/system.slice/docker-{ID}.scope",
        f"0::/docker/{ID}",
        f"0::/system.slice/nerdctl-{ID}.scope",
        f"0::/default/{ID}",
        f"0::/machine.slice/libpod-{ID}.scope",
        f"0::/machine.slice/libpod-{ID}.scope/container",
        f"0::/libpod_parent/libpod-{ID}",
        # containerd with SystemdCgroup = false below a kubelet with the systemd driver
        f"0::/system.slice/containerd.service/{POD}:cri-containerd:{ID}",
        # seen from another cgroup namespace
        f"0::/../../{POD}/cri-containerd-{ID}.scope",
        # in a node that is a container itself
        f"0::/docker/{OTHER}/kubelet/kubepods/besteffort/pod6c1c0f4e/{ID}",
        V1,
    ],
)
@pytest.mark.parametrize("given", [ID, f"default-{ID}", f"k8s.io-{ID}", f"my-own-space-{ID}"])
def test_named(cgroups: str, given: str) -> None:
    """By the id itself, or by nerdctl's, which has its namespace before it."""
    assert names_container(cgroups, given)


@pytest.mark.parametrize(
    ("cgroups", "container_id"),
    [
        (f"0::/mesos/{UUID}", UUID),
        (f"0::/nomad.slice/share.slice/{UUID}.scope", UUID),
        ("0::/garden/2f6c1e0d-0b1a-4d52-76a4", "2f6c1e0d-0b1a-4d52-76a4"),
        ("0::/docker/c4719afa76fa", "c4719afa76fa"),
        ("0::/cnitool-77383ca0a0715733ca6f", "cnitool-77383ca0a0715733ca6f"),
    ],
)
def test_ids_of_other_forms(cgroups: str, container_id: str) -> None:
    assert names_container(cgroups, container_id)


@pytest.mark.parametrize(
    ("cgroups", "container_id"),
    [
        ("", ID),
        ("0::/", ID),
        ("0::/user.slice/user-0.slice/session-1.scope", ID),
        (f"0::/system.slice/docker-{OTHER}.scope", ID),
        (f"0::/default/{OTHER}", f"default-{ID}"),
        # A part of another id is none: ids may be as long as they like.
        (f"0::/docker/{ID}", ID[:12]),
        (f"0::/docker/0{ID}", ID),
        (f"0::/docker/{ID}0", ID),
        # What may be a word of any path is no proof.
        ("0::/system.slice/docker.service", "system"),
        ("0::/kubepods/pod1", "kubepods"),
        # Only what nerdctl makes is taken apart.
        (f"0::/default/{ID}", f"default-{ID[:12]}"),
        (f"0::/default/{ID}", f"{ID}-default"),
    ],
)
def test_not_named(cgroups: str, container_id: str) -> None:
    assert not names_container(cgroups, container_id)


@pytest.mark.parametrize("places", [f"x{ID}/{ID}", f"{ID}/x{ID}", f"x{ID}/{ID}/x{ID}"])
def test_named_beside_longer_words_of_the_same_letters(places: str) -> None:
    assert names_container(f"0::/{places}", ID)
