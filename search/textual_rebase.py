"""A patch made for one team, fitted to another that has changed since: as it is, merged, or refused. Pure.

An edit that sets a text or a choice would undo what the other team has changed at the same place. Texts are merged
where the patch only added words; everything else that both changed is a conflict, and the gate is not asked.
"""

import re
from difflib import SequenceMatcher

from ..team_edits import (
    Edit,
    Patch,
    Refusal,
    SetAggregate,
    SetDefault,
    SetInstructions,
    SetReads,
    SetRole,
    SetWhen,
)  # fmt: skip
from ..teams import AgentSpec, Block, TeamSpec

_WORD = re.compile(r"\S+")


def rebase(patch: Patch, parent: TeamSpec, onto: TeamSpec) -> Patch | Refusal:
    """Return the patch that does to `onto` what `patch` did to `parent`, or why there is none.

    Whether it can be applied is not looked at.
    """
    edits: list[Edit] = []
    for number, edit in enumerate(patch.edits, 1):
        before, now = _set_by(edit, parent), _set_by(edit, onto)
        if before == now:
            edits.append(edit)
            continue
        text = None
        if isinstance(edit, SetInstructions | SetRole) and isinstance(before, str) and isinstance(now, str):
            text = merged(before, edit.text, now)
        if text is None:
            why = "the team has changed there since, expected a place that is as it was, or words that are only added"
            return Refusal("conflict", f"edit {number}, {edit.op}", why)
        edits.append(edit.model_copy(update={"text": text}))
    return patch.model_copy(update={"edits": tuple(edits)})


def merged(base: str, theirs: str, ours: str) -> str | None:
    """Return `ours` with the words that `theirs` adds to `base`; None where it does more than add, or adds nothing.

    >>> merged("Think.", "Think. Mind the units.", "Think. Show each step.")
    'Think. Show each step. Mind the units.'
    >>> merged("Think.", "Do not think.", "Think. Show each step.")
    """
    old, new = _WORD.findall(base), _WORD.findall(theirs)
    added: list[str] = []
    for what, _, _, start, stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "insert":
            added.append(" ".join(new[start:stop]))
        elif what != "equal":
            return None
    fresh = [words for words in added if words not in ours]
    return " ".join([ours.rstrip(), *fresh]).strip() if fresh else None


def _set_by(edit: Edit, team: TeamSpec) -> object:
    """Return what stands at the place that an edit sets; None where it sets nothing, or the place is not there."""
    if isinstance(edit, SetInstructions | SetRole):
        agent = _agent(team, edit.agent)
        return agent and (agent.role if isinstance(edit, SetRole) else agent.instructions)
    if isinstance(edit, SetAggregate | SetWhen):
        block = _block(team, edit.layer, edit.block)
        return block and (block.when if isinstance(edit, SetWhen) else block.aggregate)
    if isinstance(edit, SetReads | SetDefault):
        layer = team.layer(edit.layer)
        return layer and (layer.default if isinstance(edit, SetDefault) else layer.reads)
    return None


def _agent(team: TeamSpec, name: str) -> AgentSpec | None:
    return next((agent for agent in team.agents() if agent.name == name), None)


def _block(team: TeamSpec, layer: str, name: str) -> Block | None:
    home = team.layer(layer)
    return next((block for block in home.blocks if block.name == name), None) if home else None
