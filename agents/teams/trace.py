"""What happened in a forward pass, read from its graph: one row a call, and a summary of each layer.

Searches and critiques read nothing else. Knows graphs and outputs; must not know ledgers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ...graphs import Graph, Node
from ...records import JSON, canonical, digest
from ...teams import LayerSpec, TeamSpec
from .agent import Asked, Said
from .aggregate import Combined
from .blocks import DONOR, SANDBOX, out_id
from .combining import Candidates
from .selection import Offer, Selected, block_of

PROMPTS = (Asked, Offer, Candidates)
"""Inputs that are a prompt, sent as it stands."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One call: what it was asked, what came of it, what it took.

    Attributes:
        item: The item's id.
        layer: The layer.
        block: The block; empty for the layer's choice.
        agent: The agent's name; `choice`, `synthesis` or `select` for calls that are no agent's.
        node: The node's id, which tells samples, rounds and program runs apart.
        prompt: SHA-256 of the prompt; empty for a program's run.
        input: The prompt, or the program with what it was run with, as JSON.
        output: The text that was said, or the whole output as JSON.
        value: What was read from it; None where nothing could be, or it is not read.
        tokens: Sent and answered.
        seconds: Of the call.
        failure: Why there is no output; empty where there is one.
        unread: Why no value could be read from an agent's output; empty where one could.
    """

    item: str
    layer: str
    block: str
    agent: str
    node: str
    prompt: str
    input: str
    output: str
    value: str | None
    tokens: float
    seconds: float
    failure: str = ""
    unread: str = ""

    def as_json(self) -> dict[str, JSON]:
        """Return the row as JSON."""
        return asdict(self)


class _Spot(NamedTuple):
    """Where a node stands in its team."""

    layer: str
    block: str
    agent: str


def trace_of(graph: Graph, team: TeamSpec) -> list[TraceRow]:
    """Return one row for each call of a team's graph that has ended, in the order in which they were added.

    Nodes that take no call (a choice by rule, a count of votes) and those of the loss are left out.
    """
    spots = [_Spot(layer.name, block.name, agent.name) for layer, block, agent in team.places()]
    rows = []
    for id_, node in graph.nodes.items():
        spot = _spot(id_, team, spots)
        if spot is not None and node.model and graph.states[id_].done:
            rows.append(_row(graph, node, spot))
    return rows


def _spot(id_: str, team: TeamSpec, spots: list[_Spot]) -> _Spot | None:
    """Return where a node stands; None where it is no agent's, aggregator's or selector's."""
    for spot in spots:
        if id_.startswith(f"{spot.layer}/{spot.block}/{spot.agent}#"):
            return spot
    for layer in team.layers:
        if id_ == f"{layer.name}/select":
            return _Spot(layer.name, "", "select")
        for block in layer.blocks:
            for own in ("choice", "synthesis"):
                if id_ == f"{layer.name}/{block.name}/{own}":
                    return _Spot(layer.name, block.name, own)
    return None


def _row(graph: Graph, node: Node, spot: _Spot) -> TraceRow:
    state = graph.states[node.id]
    blocked = state.failed is not None and state.failed.reason == "Upstream"
    given = None if blocked else graph.given(node)
    asked = given.prompt if isinstance(given, PROMPTS) else ""
    sent = "" if given is None else asked or canonical(given.model_dump(mode="json"))
    output, value, unread = "", None, ""
    if isinstance(state.output, Said):
        output, value, unread = state.output.text, state.output.value, state.output.error
    elif state.output is not None:
        output = canonical(state.output.model_dump(mode="json"))
    failed = state.failed
    return TraceRow(
        graph.item, *spot, node.id, digest(asked) if asked else "", sent, output, value,
        state.cost.get("tokens", 0.0), state.cost.get("seconds", 0.0),
        "" if failed is None else f"{failed.reason}: {failed.detail}".rstrip(": "), unread,
    )  # fmt: skip


def layer_stats(graph: Graph, team: TeamSpec) -> dict[str, dict[str, JSON]]:
    """Return a summary of each layer whose choice was made, by name.

    `block`: which was taken; `bad_selection`: whether a selector's answer named none; `agents` and `unparsed`: outputs
    that took part, and those that could not be read; `disagree`: whether two said different things; `retried`: how
    many were asked twice. A layer that came to nothing has no figures but the first two.
    """
    stats: dict[str, dict[str, JSON]] = {}
    for layer in team.layers:
        selected = graph.output(f"{layer.name}/select")
        if isinstance(selected, Selected):
            stats[layer.name] = _stats(graph, layer, selected)
    return stats


def _stats(graph: Graph, layer: LayerSpec, selected: Selected) -> dict[str, JSON]:
    block = block_of(layer, selected)
    stats: dict[str, JSON] = {"block": block.name, "bad_selection": selected.bad}
    out = graph.output(out_id(layer.name))
    if isinstance(out, Combined):
        start = f"{layer.name}/{block.name}/"
        said = [graph.output(id_) for id_ in graph.nodes if id_.startswith(start)]
        stats |= {
            "agents": out.agents, "unparsed": out.unparsed, "disagree": len(out.votes) > 1,
            "retried": sum(isinstance(one, Said) and one.retried for one in said),
        }  # fmt: skip
    return stats


def path_calls(graph: Graph) -> int:
    """Return how many calls of models follow one another on the longest way; programs' runs and a donor's are none."""
    longest: dict[str, int] = {}
    for layer in graph.layers():
        for id_ in layer:
            above: Iterator[int] = (longest[parent] for parent in graph.dag.predecessors(id_))
            counts = graph.nodes[id_].model not in ("", SANDBOX) and not id_.startswith(DONOR)
            longest[id_] = max(above, default=0) + (_calls(graph.states[id_].cost) if counts else 0)
    return max(longest.values(), default=0)


def _calls(cost: Mapping[str, Any]) -> int:
    """Return the calls that a node took, one after another; what was found in the ledger tells what it once took."""
    return int(cost.get("calls", 1.0))


__all__ = ["TraceRow", "layer_stats", "path_calls", "trace_of"]
