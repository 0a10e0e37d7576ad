"""What a scripted model makes of a prompt: which kind it is, who is asked, what is shown. Nothing is answered here.

All that depends on the wording of agents/teams/prompts is in this file; another wording changes nothing else.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from plait.models.chat import Message
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, Schema, TeamSpec
from plait.tests.scripted_team import World
from plait.tests.scripted_team_critic import Aim, lacking
from plait.tests.scripted_team_play import Call, Draft, last_words

Kind: TypeAlias = Literal["agent", "select", "choose", "critique", "repair"]

_FORMS: dict[Kind, str] = {  # of the answers asked for, the most telling first
    "repair": '"edits":',
    "critique": '"findings":',
    "select": '"block": "<',
    "choose": '"answer": <',
}
_ROLE = re.compile(r"^You are (.+?)\.$", re.MULTILINE)
_TASK = re.compile(r"^The task now: (.*)$", re.MULTILINE)
_SAID = re.compile(r"Worked through it with ([a-z, ]+); lacks ([a-z]+)\.\s+(?:\| )?Answer: (\d+)")
_CHOICE = re.compile(r"^- ([\w.-]+): (.*)$", re.MULTILINE)
_LAYER = re.compile(r"^Layer ([\w.-]+) \(reads: .*?; block chosen by: (\w+); default block: ([\w.-]+)\)")
_BLOCK = re.compile(r"^Block ([\w.-]+) \(outputs combined by: (\w+)\)")
_AGENT = re.compile(r"^Agent ([\w.-]+) \(answers with: (\w+); temperature ([\d.]+)(?:; (\d+) samples)?")
_SAMPLE = re.compile(r"^Training question \d+ of \d+, score ([\d.]+) of 1:$", re.MULTILINE)
_STEP = re.compile(r"^([\w.-]+) / ([\w.-]+) / ([\w.-]+)[^\n|]*:\n((?:\|.*\n?)+)", re.MULTILINE)
_SCOPE = re.compile(r"^Review layer ([\w.-]+) alone", re.MULTILINE)
_MEND = re.compile(r"^Mend this \((\w+)(?:, layer ([\w.-]+))?(?:, agent ([\w.-]+))?\):\n((?:\|.*\n?)+)", re.MULTILINE)
_CHANGE = re.compile(
    r"^(?:Change something of this sort|Mend what made these answers wrong): (\w+)"
    r"(?:, in layer ([\w.-]+?))?(?:, at agent ([\w.-]+?))?\.$",
    re.MULTILINE,
)


def kind_of(messages: Sequence[Message]) -> Kind:
    """Return what a call asks for."""
    text = asked(messages)
    return next((kind for kind, form in _FORMS.items() if form in text), "agent")


def asked(messages: Sequence[Message]) -> str:
    """Return the prompt: what the first user's turn says."""
    return next(message["content"] for message in messages if message["role"] == "user")


def said(world: World, right: bool, gold: int, wrong: int, phrases: Sequence[int], lacks: int | None) -> str:
    """Return an agent's answer, with a mark of what it was written with and of what it lacked."""
    with_ = ", ".join(world.tag_of[phrase] for phrase in sorted(phrases)) or "nothing"
    named = "nothing" if right else "luck" if lacks is None else world.tag_of[lacks]
    return f"Worked through it with {with_}; lacks {named}.\nAnswer: {gold if right else wrong}"


def call_of(world: World, prompt: str, draw: object) -> Call:
    """Return what an agent's call depends on."""
    roles = _ROLE.findall(prompt)
    drafts = dict.fromkeys(
        Draft(int(answer), frozenset(world.tags[tag] for tag in with_.split(", ") if tag in world.tags))
        for with_, _, answer in _SAID.findall(prompt)
    )
    return Call(roles[-1] if roles else "", world.found(prompt), tuple(drafts), draw)


def choice_of(prompt: str) -> tuple[str, list[Block]]:
    """Return a selector's task and the blocks it is offered, names and `when` alone."""
    offered = prompt[prompt.index("Several groups") :]
    blocks = [Block.model_construct(name=name, when=when, agents=()) for name, when in _CHOICE.findall(offered)]
    tasks = _TASK.findall(prompt)
    return tasks[-1] if tasks else "", blocks


def team_of(prompt: str) -> TeamSpec:
    """Return the team that critic and repair are shown, as far as it is shown; unchecked."""
    layers: list[dict[str, Any]] = []
    lines: list[str] = []
    for line in prompt[prompt.index("The team:") :].splitlines():
        if found := _LAYER.match(line):
            layers.append({"name": found[1], "selector": found[2], "default": found[3], "blocks": []})
            layers[-1]["task"] = lines = []
        elif found := _BLOCK.match(line):
            layers[-1]["blocks"].append({"name": found[1], "kind": found[2], "agents": []})
            layers[-1]["blocks"][-1]["when"] = lines = []
        elif found := _AGENT.match(line):
            lines = []
            layers[-1]["blocks"][-1]["agents"].append((found, lines))
        elif line.startswith("| ") and layers:
            lines.append(line[2:])
        elif line and not line.startswith("|") and layers:
            break
    made = [
        LayerSpec(
            name=layer["name"], task="\n".join(layer["task"]), default=layer["default"], selector=layer["selector"],
            blocks=tuple(map(_block, layer["blocks"])),
        )
        for layer in layers
    ]  # fmt: skip
    return TeamSpec.model_construct(layers=tuple(made), answer=Schema(kind="number"))


def _block(read: dict[str, Any]) -> Block:
    agents = tuple(_agent(found, lines) for found, lines in read["agents"])
    return Block(name=read["name"], when=" ".join(read["when"]), agents=agents, aggregate=Aggregator(kind=read["kind"]))


def _agent(found: re.Match[str], lines: Sequence[str]) -> AgentSpec:
    told = "\n".join(lines[1:])
    return AgentSpec(
        name=found[1], role=lines[0], instructions="" if told == "(no instructions of its own)" else told,
        temperature=float(found[3]), n=int(found[4] or 1), output=Schema(kind=found[2]),  # type: ignore[arg-type]
    )  # fmt: skip


def wrong_of(world: World, prompt: str) -> tuple[str, list[tuple[str, str, int | None]]]:
    """Return a critique's scope ("" for the whole team), and what the wrong answers that it is shown lacked."""
    scopes = _SCOPE.findall(prompt)
    ends = last_words(team_of(prompt))
    parts = _SAMPLE.split(prompt)[1:]
    rows: list[tuple[str, str, int | None]] = []
    for score, text in zip(parts[::2], parts[1::2], strict=True):
        for layer, _, agent, output in _STEP.findall(text):
            answered = _SAID.search(output)
            if float(score) < 1 and (layer, agent) in ends and answered and answered[2] != "nothing":
                lacks = lacking(world, output)
                rows += [(layer, agent, lacks[0] if lacks else None)]
    return scopes[0] if scopes else "", rows


def aim_of(prompt: str) -> Aim:
    """Return what a repair is aimed at."""
    if found := _MEND.search(prompt):
        return Aim(found[2] or "", found[3], found[1], found[4])
    if found := _CHANGE.search(prompt):
        return Aim(found[2] or "", found[3], found[1])
    raise AssertionError(f"a repair's prompt that names no finding: {json.dumps(prompt[-300:])}")
