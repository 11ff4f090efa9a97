"""What a command is about."""

from __future__ import annotations

from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.cni.netconf import NetConf


@frozen
class Scope:
    """Which attachments a command is about, where its state lives, and how to show it."""

    checkpoint_dir: str
    run_dir: str  # empty: as each attachment's own configuration has it
    conf: NetConf | None
    containers: tuple[str, ...]
    json: bool
    again: str  # the options that a next command has to repeat, with a blank before each
    named: bool = False  # the directory was, on the command line

    @property
    def nothing(self) -> str:
        """Said where there is nothing: a node full of dead pods may look like that, too."""
        return (
            f"no attachments in {self.checkpoint_dir};"
            f" cni-repair adopt{self.again} finds pods that were attached without it"
        )
