"""Masters by altname, and a NIC that comes back with its recorded name as an altname."""

from __future__ import annotations

import json

from integration.driver.checks import Checks, said
from integration.driver.guest import UPLINK_MACS
from integration.driver.node import Node, Outcome
from integration.driver.scenarios.common import (
    CHECKPOINTS,
    Json,
    check_lost,
    check_pings,
    check_repaired,
    check_same,
    check_vlan,
    errors,
    without_eth0,
)
from integration.driver.scenarios.late import rename

SHORT, LONG = "storage0", "storage0-which-is-longer-than-a-first-name"
PREDICTABLE = "enp6s0f0np0"
VLAN_ALTNAME = "pods-vlan"


def altnames(node: Node, check: Checks) -> None:
    """The master is an altname, and the NIC comes back under a predictable name."""
    node.up()
    altname(node, "eth0", SHORT, LONG)
    check_status(check, node)
    wire = node.attach({"master": [SHORT]}, {"master": [LONG]}, {"master": ["eth0"]})
    check_vlan(check, node, "eth0.3", "eth0")
    altname(node, "eth0.3", VLAN_ALTNAME)
    check_record(check, node.cli("snapshot"))
    before = node.interfaces()

    since = node.unload()
    check_lost(check, "rmmod e1000e: eth0 and eth0.3", node)
    back_as(node, PREDICTABLE, "eth0")
    planned = node.cli("plan", "--all")
    check(
        f"eth0 is an altname of {PREDICTABLE} now: plan says how, with the first name",
        planned.returncode == 1 and f"ip link add link {PREDICTABLE} name eth0.3" in said(planned),
        said(planned),
    )
    check_repaired(check, node, node.cni("REPAIR"))
    check_vlan(check, node, "eth0.3", PREDICTABLE)
    named = node.link(VLAN_ALTNAME).get("ifname")
    check(f"{VLAN_ALTNAME} is an altname of eth0.3 again", named == "eth0.3", named)
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.outage = wire.outage(since)

    node.unload()
    back_as(node, PREDICTABLE, "eth0")
    node.ip(f"link add link {PREDICTABLE} name vlan3 type vlan id 3")
    answer = node.cni("REPAIR")
    check_repaired(check, node, answer)
    check_vlan(check, node, "vlan3", PREDICTABLE)
    check("no second VLAN was made", "eth0.3" not in node.links(), sorted(node.links()))
    check_same(check, node, before)
    check_checks(check, node)

    # By CHECK, the records have the new first names, and eth0 as an altname.
    node.unload()
    back_as(node, "ens9")
    altname(node, "eth1", PREDICTABLE)
    answer = node.cni("REPAIR", conf=node.netconf(masterTimeout=1))
    check(
        f"{PREDICTABLE} is an altname of another card: exit 1, both permanent MACs named",
        answer.returncode == 1
        and all(mac in error["msg"] for error in errors(answer) for mac in UPLINK_MACS)
        and len(without_eth0(node)) == len(node.pods),
        said(answer),
    )
    altname(node, "ens9", "eth0")
    check_repaired(check, node, node.cni("REPAIR"))
    check_vlan(check, node, "vlan3", "ens9")
    check_same(check, node, before)


def altname(node: Node, link: str, *names: str) -> None:
    for name in names:
        node.ip(f"link property add dev {link} altname {name}")


def back_as(node: Node, name: str, *altnames: str) -> None:
    """The driver is loaded, and what names links gives eth0 another first name."""
    node.load()
    rename(node, eth0=name)
    altname(node, name, *altnames)
    node.up(name)


def check_status(check: Checks, node: Node) -> None:
    for master, vlan_id, code in ((LONG, 4000, 0), (PREDICTABLE, 4000, 50)):
        asked = node.cni("STATUS", conf=node.netconf(master=[master], vlanId=vlan_id))
        got = asked.document["code"] if asked.returncode else 0
        check(f"STATUS with master {master}: code {code}", got == code, said(asked))


def check_record(check: Checks, taken: Outcome) -> None:
    records: list[Json] = [json.loads(path.read_text()) for path in CHECKPOINTS.glob("*.json")]
    names = [[(one["name"], one.get("altnames")) for one in record["parents"]]
             for record in records]  # fmt: skip
    both = [("eth0.3", [VLAN_ALTNAME]), ("eth0", [SHORT, LONG])]
    check(
        "snapshot: exit 0, every record has the first names and the altnames",
        taken.returncode == 0 and bool(names) and all(one == both for one in names),
        (said(taken), names),
    )


def check_checks(check: Checks, node: Node) -> None:
    """The wrapped plugin is asked about the VLAN under the name that it has."""
    for pod in node.pods:
        result = node.cni("REPAIR", pod).document
        asked = node.cni("CHECK", pod, conf=node.netconf(master=[SHORT], prevResult=result))
        check(f"CHECK of {pod.name}: exit 0", asked.returncode == 0, said(asked))


SCENARIOS = {"altnames": altnames}
