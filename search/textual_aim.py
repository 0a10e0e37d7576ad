"""Where repairs aim: findings read out of critiques, spread over layers, or drawn at random. Pure."""

import random
from collections.abc import Iterable, Mapping, Sequence

from ..records import JSON
from ..team_findings import AIMED, KINDS
from ..teams import LayerSpec, TeamSpec
from .textual_momentum import shorten
from .textual_trials import Finding

FINDING = 600
"""Characters kept of a finding's text."""


def sampled(layer: LayerSpec) -> bool:
    """Whether a new draw of a layer's agents can differ from the one before."""
    return any(agent.temperature > 0 for block in layer.blocks for agent in block.agents)


def read_findings(values: Mapping[str, JSON], scope: str, team: TeamSpec) -> list[Finding]:
    """Return the findings of a critique's values, names that the team does not know left out.

    A critique that is text and no finding is one finding: about its layer's prompts, or about the team's structure.
    """
    found = [_finding(row, scope, team) for row in values.get("findings") or () if isinstance(row, Mapping)]
    found = [finding for finding in found if finding.text]
    text = shorten(str(values.get("text") or ""), FINDING)
    if not found and text:
        return [Finding(scope, None, "prompt" if scope else "structure", text)]
    return found


def _finding(row: Mapping[str, JSON], scope: str, team: TeamSpec) -> Finding:
    text = shorten(str(row.get("text") or ""), FINDING)
    agent, home = _known_agent(team, row.get("agent"))
    named = row.get("layer")
    layer = named if isinstance(named, str) and team.layer(named) else home or scope
    kind = row.get("kind")
    return Finding(layer, agent, next((known for known in KINDS if known == kind), "prompt"), text)


def _known_agent(team: TeamSpec, name: JSON) -> tuple[str | None, str]:
    for layer, _, agent in team.places():
        if agent.name == name:
            return agent.name, layer.name
    return None, ""


def spread(findings: Iterable[Finding], k: int) -> list[Finding]:
    """Return `k` findings at most, distinct layers first, then the next of each layer.

    What two critiques found in the same words is one finding.

    >>> a, b, c = Finding("solve", text="a"), Finding("solve", text="b"), Finding("check", text="c")
    >>> [finding.text for finding in spread([a, b, a, c], 4)]
    ['a', 'c', 'b']
    """
    by_layer: dict[str, list[Finding]] = {}
    for finding in dict.fromkeys(findings):
        by_layer.setdefault(finding.layer, []).append(finding)
    longest = max(map(len, by_layer.values()), default=0)
    order = [rows[at] for at in range(longest) for rows in by_layer.values() if at < len(rows)]
    return order[:k]


def random_finding(team: TeamSpec, rng: random.Random, edits: Sequence[str] = ()) -> Finding:
    """Return a drawn kind at a drawn agent, or layer where the kind is no agent's; nobody found anything.

    `edits`: those that are open, where not all are; a kind that none of them mends is not drawn.
    """
    kind = rng.choice([kind for kind in KINDS if not edits or set(AIMED[kind]) & set(edits)])
    layer, _, agent = rng.choice(list(team.places()))
    return Finding(layer.name, agent.name if kind in {"prompt", "role"} else None, kind)


def of_agents(team: TeamSpec, findings: Sequence[Finding], local: Mapping[str, str]) -> list[Finding]:
    """Return a finding for every agent whose layer was criticised: its own, or else all that was said of its layer."""
    aimed = []
    for layer, _, agent in team.places():
        own = [finding.text for finding in findings if finding.agent == agent.name]
        text = "; ".join(own) or shorten(local.get(layer.name, ""), FINDING)
        if text:
            aimed.append(Finding(layer.name, agent.name, "prompt", text))
    return aimed


def sections(texts: Mapping[str, str]) -> str:
    """Return the critiques of several layers as one text, each under its layer's name."""
    return "\n\n".join(f"Layer {layer}:\n{text}" for layer, text in texts.items() if text)
