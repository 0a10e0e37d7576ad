"""A team as a graph, as Mermaid text and as a picture, and what sets two teams apart. Reads teams; runs nothing."""

import difflib
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from .graph_pictures import escaped
from .teams import INPUT, Aggregator, Block, Frozen, LayerSpec, Schema, TeamSpec

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.figure import Figure

ANSWER = "answer"
COLOURS = {"terminal": "#eceff1", "select": "#f6e8c3", "agent": "#cfe8f3", "spare": "#ffffff", "combine": "#e3f1e0"}


def diff(before: TeamSpec, after: TeamSpec) -> str:
    """Return what sets `after` apart, place by place: `- ` gone, `+ ` new, fields as `old -> new`; "" where nothing."""
    old, new = dict(_facts(before)), dict(_facts(after))
    lines = []
    for place in _merged(list(old), list(new)):
        if place not in new:
            lines.append(f"- {place}")
            continue
        now, plain = new[place]
        was = old[place][0] if place in old else None
        changed = [line for field in now for line in _change(field, (was or plain)[field], now[field], was is None)]
        if was is None or changed:
            lines += [f"{'+' if was is None else ' '} {place}", *changed]
    return "".join(f"{line}\n" for line in lines)


def dag(team: TeamSpec) -> "nx.DiGraph[str]":
    """Return the calls of a team, in their order, as a graph.

    Nodes are `input`, `answer`, and for each layer `LAYER/select` where a block is chosen, `LAYER/BLOCK/AGENT`, the
    combination `LAYER/BLOCK/+`, and the output `LAYER/out`. Each has a `label`, a `layer` ("" for the ends) and a
    `kind`: terminal, select, agent, combine, or spare for what waits in a block that a static layer never chooses.
    """
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node(INPUT, label="question", layer="", kind="terminal")
    for layer in team.layers:
        sources = [f"{name}/out" for name in team.read_by(layer)] or [INPUT]
        if layer.selector != "static" and len(layer.blocks) > 1:
            _step(graph, layer, "select", f"{layer.selector} selection", sources)
            sources = [f"{layer.name}/select"]
        combined = [_block(graph, layer, block, sources) for block in layer.blocks]
        _step(graph, layer, "out", layer.name, combined, "combine")
    graph.add_node(ANSWER, label=f"answer: {_shown(team.answer)}", layer="", kind="terminal")
    graph.add_edge(f"{team.layers[-1].name}/out", ANSWER)
    return graph


def mermaid(team: TeamSpec) -> str:
    """Return the team as a Mermaid flow chart, top down, a box a layer."""
    graph = dag(team)
    names = {id_: f"n{number}" for number, id_ in enumerate(graph.nodes)}
    boxes = {id_: f'{names[id_]}["{escaped(data["label"])}"]' for id_, data in graph.nodes.items()}
    lines = ["flowchart TD", f"  {boxes[INPUT]}"]
    for number, layer in enumerate(team.layers):
        title = escaped(f"{layer.name}: {textwrap.shorten(layer.task, 80, placeholder='…')}")
        inner = [f"    {boxes[id_]}" for id_, data in graph.nodes.items() if data["layer"] == layer.name]
        lines += [f'  subgraph s{number}["{title}"]', *inner, "  end"]
    lines.append(f"  {boxes[ANSWER]}")
    lines += [f"  {names[above]} --> {names[below]}" for above, below in graph.edges]
    for kind, colour in COLOURS.items():
        members = [names[id_] for id_, data in graph.nodes.items() if data["kind"] == kind]
        if members:
            lines += [f"  classDef {kind} fill:{colour},stroke:#7b8794", f"  class {','.join(members)} {kind}"]
    return "\n".join(lines) + "\n"


def plot(team: TeamSpec) -> "Figure":
    """Return a figure: a band a layer in the order of the team, arrows down, blocks never chosen left white."""
    import networkx as nx
    from matplotlib.figure import Figure

    graph = dag(team)
    rows = _rows(team, graph)
    widest = max(len(row) for _, row in rows)
    place = {
        id_: ((at + 0.5) * widest / len(row), -float(depth))
        for depth, (_, row) in enumerate(rows)
        for at, id_ in enumerate(row)
    }
    figure = Figure(figsize=(max(5.0, 1.7 * widest), max(2.5, 0.9 * len(rows))), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    for number, layer in enumerate(team.layers):
        depths = [depth for depth, (name, _) in enumerate(rows) if name == layer.name]
        axes.axhspan(0.45 - depths[0], -0.45 - depths[-1], color="#f4f6f8" if number % 2 else "#fafbfc", zorder=0)
    nx.draw_networkx_edges(graph, place, ax=axes, edge_color="#b0b8c0", arrowsize=8, node_size=1200, width=0.8)
    for id_, (x, y) in place.items():
        colour, label = COLOURS[graph.nodes[id_]["kind"]], textwrap.fill(graph.nodes[id_]["label"], 24)
        box = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "#7b8794"}
        axes.text(x, y, label, ha="center", va="center", fontsize=7, bbox=box, parse_math=False)
    axes.set_xlim(-0.2, widest + 0.2)
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    return figure


def _rows(team: TeamSpec, graph: "nx.DiGraph[str]") -> list[tuple[str, list[str]]]:
    """Return (layer, nodes) of each row of the picture, top down."""
    import networkx as nx

    rows, order = [("", [INPUT])], list(graph)
    for layer in team.layers:
        own = graph.subgraph([id_ for id_, data in graph.nodes.items() if data["layer"] == layer.name])
        # a subgraph's own order is that of a set
        rows += [(layer.name, sorted(row, key=order.index)) for row in nx.topological_generations(own)]
    return [*rows, ("", [ANSWER])]


def _step(graph: "nx.DiGraph[str]", layer: LayerSpec, name: str, label: str, above: list[str], kind: str = "") -> str:
    id_ = f"{layer.name}/{name}"
    graph.add_node(id_, label=label, layer=layer.name, kind=kind or name)
    graph.add_edges_from((one, id_) for one in above)
    return id_


def _block(graph: "nx.DiGraph[str]", layer: LayerSpec, block: Block, sources: list[str]) -> str:
    spare = layer.selector == "static" and block.name != layer.fallback.name
    agents: list[str] = []
    for agent in block.agents:
        above = agents[-1:] if block.aggregate.kind == "chain" and agents else sources
        label = f"{agent.name} x{agent.n}" if agent.n > 1 else agent.name
        agents.append(_step(graph, layer, f"{block.name}/{agent.name}", label, above, "spare" if spare else "agent"))
    last = agents[-1:] if block.aggregate.kind == "chain" else agents
    label = f"{block.name}: {_shown(block.aggregate)}"
    return _step(graph, layer, f"{block.name}/+", label, last, "spare" if spare else "combine")


_Fields: TypeAlias = dict[str, str]


def _facts(team: TeamSpec) -> Iterator[tuple[str, tuple[_Fields, _Fields]]]:
    """Yield every place with its fields as text, as they are and as they would be by default."""
    yield "team", _fields(team, layers=", ".join(layer.name for layer in team.layers))
    for layer in team.layers:
        yield f"layer {layer.name}", _fields(layer)
        for block in layer.blocks:
            where = f"layer {layer.name}: block {block.name}"
            yield where, _fields(block)
            yield from ((f"{where}: agent {agent.name}", _fields(agent)) for agent in block.agents)


def _fields(part: Frozen, **more: str) -> tuple[_Fields, _Fields]:
    fields = {name: field for name, field in type(part).model_fields.items() if name not in ("name", *_PARTS)}
    plain = {name: "" if field.is_required() else _shown(field.default) for name, field in fields.items()}
    return {name: _shown(getattr(part, name)) for name in fields} | more, plain | dict.fromkeys(more, "")


_PARTS = ("layers", "blocks", "agents")
"""Fields whose values have places of their own."""


def _shown(value: Any) -> str:
    """Return a value as people write it: `option (a, b)`, `debate, rounds 2`, `solve, check`."""
    if isinstance(value, Aggregator):
        rest = {name: getattr(value, name) for name in ("rounds", "model", "output")}
        given = [f"{name} {_shown(rest[name])}" for name in rest if rest[name] != Aggregator.model_fields[name].default]
        return ", ".join([value.kind, *given])
    if isinstance(value, Frozen) and not isinstance(value, Schema):
        return ", ".join(f"{name} {_shown(getattr(value, name))}" for name in type(value).model_fields)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _change(field: str, old: str, new: str, fresh: bool) -> Iterator[str]:
    """Yield the lines that tell of a field's change; long texts line by line."""
    if old == new:
        return
    if max(len(old), len(new)) <= 40 and not {"\n", "\r"} & {*old, *new}:
        yield f"    {field}: {new}" if fresh else f"    {field}: {old or '(none)'} -> {new or '(none)'}"
        return
    yield f"    {field}:"
    for line in difflib.ndiff([] if fresh else old.splitlines(), new.splitlines()):
        if not line.startswith("?"):
            yield f"      {line}"


def _merged(old: list[str], new: list[str]) -> Iterator[str]:
    """Yield the places of both teams: the new ones in order, each that is gone where it was."""
    match = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for _, i, j, k, n in match.get_opcodes():
        yield from dict.fromkeys(place for place in (*old[i:j], *new[k:n]))
