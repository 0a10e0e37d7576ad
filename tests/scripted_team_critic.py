"""Scripted critics and repairs: they read what wrong answers lack, and name it as often as the world's q says.

A critique passes on what it reads; whether the right phrase is named is drawn at the repair, once a proposal, so that
two repairs of one finding are two guesses. A repair without a finding to go by is a random edit. Texts only: the same
functions serve trials (scripted_team_play.py) and prompts (scripted_team_chat.py).
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from plait.records import JSON
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, TeamSpec
from plait.tests.scripted_team import CHECKER, OTHERS, POISON, UNCHECKED, VOCABULARY, WORDINGS, Harm, World, uniform

Poison: TypeAlias = Harm | Literal["mixed"]
"""Patches of one harm, or of the three in turn."""

FINDINGS = 3
_LACKS = re.compile(r"lacks ([a-z]+)")


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a repair goes wrong, each a share of its answers.

    Attributes:
        prose: It talks, and gives no patch.
        bad_json: It stops in the middle of one.
        cycle: It lets a layer read itself.
        unknown: It edits an agent that does not exist.
    """

    prose: float = 0.0
    bad_json: float = 0.0
    cycle: float = 0.0
    unknown: float = 0.0


STEADY = Habits()
"""Every answer is a patch."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What a repair is aimed at; `text` is "" where nobody has looked at a trace."""

    layer: str = ""
    agent: str | None = None
    kind: str = "prompt"
    text: str = ""


def critique(world: World, wrong: Iterable[tuple[str, str, int | None]], scope: str = "") -> dict[str, JSON]:
    """Return findings and text about wrong answers.

    Args:
        world: Whose tags stand for what is missing.
        wrong: Layer, agent and what was missing, an answer each.
        scope: The layer to speak of; "" for all.
    """
    seen = Counter(row for row in wrong if scope in ("", row[0]))
    findings = [_finding(world, *row, times) for row, times in seen.most_common(FINDINGS)]
    return {"findings": findings, "text": " ".join(str(finding["text"]) for finding in findings)}


def _finding(world: World, layer: str, agent: str, lacks: int | None, times: int) -> dict[str, JSON]:
    named = "luck" if lacks is None else world.tag_of[lacks]
    text = f"{times} wrong answers of {agent} in layer {layer}: the prompt lacks {named}."
    kind = "structure" if lacks == UNCHECKED else "prompt"
    return {"layer": layer, "agent": None if kind == "structure" else agent, "kind": kind, "text": text}


def lacking(world: World, text: str) -> list[int]:
    """Return what a text says is lacking, in its order."""
    return [world.tags[tag] for tag in _LACKS.findall(text) if tag in world.tags]


def repair(world: World, team: TeamSpec, aim: Aim, key: str, habits: Habits = STEADY) -> str:
    """Return the answer of a repair: a patch as JSON, or what its habits make of it."""
    layer, block, agent = _place(team, aim, key)
    draw = uniform(world.seed, "habit", key)
    for share, answer in (
        (habits.prose, "I would ask the team to think harder about each question."),
        (habits.bad_json, '{"edits": [{"op": "set_instructions", "agent": "' + agent.name),
        (habits.cycle, _patch({"op": "set_reads", "layer": layer.name, "reads": [layer.name]})),
        (habits.unknown, _patch({"op": "set_role", "agent": "nobody-of-that-name", "text": "a helper"})),
    ):
        if draw < share:
            return answer
        draw -= share
    edits = _edits(world, layer, block, agent, aim, key) or [_with_phrase(world, agent, _guess(world, key), key)]
    return _patch(*edits)


def poisoned(world: World, team: TeamSpec, aim: Aim, key: str, harm: Poison = "mixed", index: int | None = None) -> str:
    """Return a patch of a known small harm; those of different `index`, below 240, are of different phrases."""
    _, _, agent = _place(team, aim, key)
    number = int(uniform(world.seed, "poison", key) * 10**6) if index is None else index
    kinds = list(POISON)
    known: Harm = kinds[number % len(kinds)] if harm == "mixed" else harm
    phrases = world.poisons(known)
    return _patch(_with_phrase(world, agent, phrases[number % len(phrases)], key))


def _edits(world: World, layer: LayerSpec, block: Block, agent: AgentSpec, aim: Aim, key: str) -> list[Any]:
    """Return a valid patch's edits; nothing where a random phrase is to be added."""
    restructured = _shape(layer, block, agent, key)
    if not aim.text:
        if aim.kind in ("aggregation", "structure"):
            return restructured
        if aim.kind == "role":
            phrase = world.phrases[_guess(world, key)]
            return [{"op": "set_role", "agent": agent.name, "text": f"{agent.role}, mindful of the {phrase}"}]
        if aim.kind == "selection":
            text = f"for {world.phrases[_guess(world, key)]}"
            return [{"op": "set_when", "layer": layer.name, "block": block.name, "text": text}]
        return []
    if world.structure and uniform(world.seed, "structural", key) < world.structural:
        return restructured
    known = lacking(world, aim.text)
    if not known or uniform(world.seed, "knows", key) >= world.q:
        return []
    lacks = known[int(uniform(world.seed, "which", key) * len(known))]
    return _check(layer, block, agent) if lacks == UNCHECKED else [_with_phrase(world, agent, lacks, key)]


def _place(team: TeamSpec, aim: Aim, key: str) -> tuple[LayerSpec, Block, AgentSpec]:
    """Return where a patch goes: to the agent that is named, else to one of the layer, else of the team."""
    places = list(team.places())
    named = [place for place in places if place[2].name == aim.agent]
    fitting = named or [place for place in places if place[0].name == aim.layer] or places
    return fitting[int(uniform("place", key) * len(fitting))]


def _guess(world: World, key: str) -> int:
    return int(uniform(world.seed, "guess", key) * VOCABULARY)


def _with_phrase(world: World, agent: AgentSpec, phrase: int, key: str) -> dict[str, JSON]:
    wording = int(uniform(world.seed, "wording", key) * len(WORDINGS))
    text = f"{agent.instructions} {world.sentence(phrase, wording)}".strip()
    return {"op": "set_instructions", "agent": agent.name, "text": text}


def _shape(layer: LayerSpec, block: Block, agent: AgentSpec, key: str) -> list[Any]:
    """Return edits that give a lone agent a checker, or two colleagues and a vote; nothing where it has company."""
    if uniform("shape", key) < 0.5:
        return _check(layer, block, agent)
    if len(block.agents) > 1:
        return []
    added = [_added(layer, block, agent, name, role) for name, role in OTHERS]
    return [*added, _aggregate(layer, block, "majority")]


def _check(layer: LayerSpec, block: Block, agent: AgentSpec) -> list[Any]:
    """Return edits that put a checker after a lone agent; nothing where it has company."""
    if len(block.agents) > 1:
        return []
    return [_added(layer, block, agent, "checker", CHECKER), _aggregate(layer, block, "chain")]


def _added(layer: LayerSpec, block: Block, agent: AgentSpec, name: str, role: str) -> dict[str, JSON]:
    new = agent.model_copy(update={"name": f"{agent.name}-{name}", "role": role})
    written = new.model_dump(mode="json", exclude_defaults=True)
    return {"op": "add_agent", "layer": layer.name, "block": block.name, "agent": written}


def _aggregate(layer: LayerSpec, block: Block, kind: Any) -> dict[str, JSON]:
    written = Aggregator(kind=kind).model_dump(mode="json", exclude_defaults=True)
    return {"op": "set_aggregate", "layer": layer.name, "block": block.name, "aggregate": written}


def _patch(*edits: Any) -> str:
    return json.dumps({"edits": edits, "rationale": "so that answers lack nothing"})


def read_patch(text: str) -> dict[str, JSON]:
    """Return what a repair trial comes to: the patch of an answer, or why it holds none."""
    try:
        values = json.loads(text)
    except ValueError:
        return {"patch": None, "text": text, "error": "no JSON object in the answer, expected a patch"}
    return {"patch": values, "text": text, "error": ""}
