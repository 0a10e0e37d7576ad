"""What may be at fault in a team, and which edits mend it. Pure; must not know what an edit does."""

from typing import Literal, TypeAlias, get_args

FindingKind: TypeAlias = Literal["prompt", "role", "aggregation", "structure", "selection"]
KINDS: tuple[FindingKind, ...] = get_args(FindingKind)
"""What a critique may find at fault, and an edit be aimed at."""

AIMED: dict[FindingKind, tuple[str, ...]] = {
    "prompt": ("set_instructions",),
    "role": ("set_role", "set_instructions"),
    "aggregation": ("set_aggregate", "add_agent"),
    "structure": (
        "add_agent", "remove_agent", "set_aggregate", "add_block", "remove_block", "add_layer", "remove_layer",
        "set_reads",
    ),
    "selection": ("set_when", "set_default", "add_block", "remove_block"),
}  # fmt: skip
"""The `op`s of the edits that mend a fault of each kind."""


__all__ = ["AIMED", "KINDS", "FindingKind"]
