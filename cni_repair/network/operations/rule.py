"""The step of a repair for the policy rules of a pod's namespace."""

from __future__ import annotations

from cni_repair.base.frozen import frozen
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.rule import RULE_ACTIONS, TABLE, encode
from cni_repair.network.model import FR_ACT_TO_TBL, Rule
from cni_repair.network.operations.base import Operation
from cni_repair.network.operations.iproute2 import inside, ip, said, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.operations.base import Target


@frozen
class AddRule(Operation):
    """Add one policy rule to the pod's namespace."""

    rule: Rule

    ifname = ""

    @property
    def words(self) -> str:
        """The rule as `ip rule` has it, without priority and origin."""
        more = {"priority": "", "protocol": ""}
        if self.rule.action != FR_ACT_TO_TBL:
            more["table"] = ""
        return words(*said(TABLE, self.rule, {**self._own(), **more}))

    def describe(self, netns: str) -> str:
        begin = f"{inside(netns)}{ip(self.rule.family)} rule add"
        return words(begin, *said(TABLE, self.rule, self._own()))

    def _own(self) -> dict[str, str]:
        rule = self.rule
        mark = f"fwmark {rule.fwmark:#x}/{rule.fwmask:#x}" if rule.fwmark or rule.fwmask else ""
        own = {
            "src": f"from {rule.src or 'all'}",
            "fwmark": mark,
            "action": RULE_ACTIONS[rule.action],
        }
        if rule.action == FR_ACT_TO_TBL:
            own |= {"action": f"{RULE_ACTIONS[rule.action]} {rule.table}", "table": ""}
        return own

    def requests(self, target: Target) -> list[nl.Message]:
        body = encode(self.rule)
        return [nl.Message(rt.RTM_NEWRULE, rt.NLM_F_CREATE | rt.NLM_F_EXCL, body)]
