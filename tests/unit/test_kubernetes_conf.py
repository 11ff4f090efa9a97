"""conf/kubernetes: it agrees with the program, the service, and the Plan of another project."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cni_repair.placing import daemonset
from cni_repair.placing.program import PROGRAM
from cni_repair.watch.settings import check_settings
from tests.unit.documents import Place, places_in
from tests.unit.samples import REPOSITORY

CONF = REPOSITORY / "conf/kubernetes"
CRD = REPOSITORY / "tests/system-upgrade-controller-crd.yaml"
UNIT = REPOSITORY / "conf/systemd/cni-repair-watch.service"


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


BASE = loaded(CONF / "kustomization.yaml")
POD = loaded(CONF / "daemonset.yaml")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_capabilities_are_those_of_the_unit_and_chroot() -> None:
    given = re.findall(r"^CapabilityBoundingSet=CAP_(.+)$", UNIT.read_text(), re.MULTILINE)
    security = CONTAINER["securityContext"]
    assert sorted(security["capabilities"]["add"]) == sorted([*given, "SYS_CHROOT"])
    assert security["capabilities"]["drop"] == ["ALL"]
    assert security["readOnlyRootFilesystem"] is True
    assert "privileged" not in security


def test_the_environment_is_what_the_program_reads() -> None:
    named = {one["name"] for one in CONTAINER["env"]}
    assert named == {daemonset.UNINSTALL, daemonset.BIN_DIR, daemonset.CONFIG_FILE}


def test_every_key_of_the_config_map_is_used() -> None:
    (generator,) = BASE["configMapGenerator"]
    keys = {one.partition("=")[0] for one in generator["literals"]} | {*generator["files"]}
    used = {
        one["valueFrom"]["configMapKeyRef"]["key"] for one in CONTAINER["env"] if "valueFrom" in one
    }
    (settings,) = (one["configMap"] for one in POD["volumes"] if "configMap" in one)
    assert keys == used | {one["key"] for one in settings["items"]}
    (value,) = (one["value"] for one in CONTAINER["env"] if "value" in one)
    mounts = {one["name"]: one["mountPath"] for one in CONTAINER["volumeMounts"]}
    assert value == f"{mounts['settings']}/{settings['items'][0]['path']}"


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_the_probes_are_what_the_program_knows(probe: str) -> None:
    program, word = CONTAINER[probe]["exec"]["command"]
    assert program == PROGRAM
    assert word == (daemonset.READY if probe == "readinessProbe" else daemonset.ALIVE)


def test_the_settings_of_all_nodes_are_valid() -> None:
    assert check_settings(str(CONF / "watch.yaml")).heal == "uplink"


def test_both_name_the_same_image() -> None:
    (image,) = BASE["images"]
    assert CONTAINER["image"] == image["name"]
    assert PLAN["spec"]["upgrade"]["image"] == f"{image['newName']}:{image['newTag']}"


# --- the Plan -------------------------------------------------------------------------------------

PLAN = loaded(CONF / "system-upgrade-plan.yaml")


def strict(schema: Any) -> Any:
    """A schema of a custom resource, which would let pass, and drop, what it does not know."""
    if isinstance(schema, dict):
        made = {key: strict(value) for key, value in schema.items()}
        if made.get("type") == "object" and "properties" in made:
            made["additionalProperties"] = False
        return made
    return schema


def mistakes_in(plan: Any) -> list[str]:
    (version,) = loaded(CRD)["spec"]["versions"]
    schema = strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(plan["spec"])]


def test_the_plan_is_one() -> None:
    definition = loaded(CRD)["spec"]
    assert mistakes_in(PLAN) == []
    (version,) = definition["versions"]
    assert PLAN["apiVersion"] == f"{definition['group']}/{version['name']}"
    assert PLAN["kind"] == definition["names"]["kind"]


@pytest.mark.parametrize("place", [*places_in(PLAN["spec"])], ids=str)
def test_a_mistaken_plan_is_noticed(place: Place) -> None:
    changed = copy.deepcopy(PLAN)
    inner: Any = changed["spec"]
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = {"no": "such"}
    assert mistakes_in(changed)


def test_one_node_and_none_before_it_is_well() -> None:
    spec = PLAN["spec"]
    assert (spec["concurrency"], spec["exclusive"]) == (1, True)
    assert spec["jobActiveDeadlineSecs"] > 0
    assert spec["upgrade"]["command"] == [PROGRAM]
    (secret,) = spec["secrets"]
    assert spec["upgrade"]["args"] == [daemonset.UPGRADE, f"{secret['path']}/upgrade.yaml"]


def test_the_container_s_program_elsewhere_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """It looked for the image's tree above / for ever."""
    assert daemonset.main([daemonset.READY]) == 1
    assert "this is not the image's container" in capsys.readouterr().err
