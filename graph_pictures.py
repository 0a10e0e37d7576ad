"""A graph of calls as Mermaid text and as a picture. Reads graphs; runs nothing."""

import re
from typing import TYPE_CHECKING

from .graphs import Graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"paid": "#cfe8f3", "found": "#e3f1e0", "failed": "#f6d5c9", "open": "#eceff1"}


def mermaid(graph: Graph) -> str:
    """Return the graph as a Mermaid flow chart, top down."""
    names = {id_: f"n{number}" for number, id_ in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    lines += [f'  {names[id_]}["{escaped("<br/>".join(_lines(graph, id_)))}"]' for id_ in graph.nodes]
    lines += [f"  {names[above]} --> {names[below]}" for above, below in graph.dag.edges]
    for kind, colour in COLOURS.items():
        members = [names[id_] for id_ in graph.nodes if _kind(graph, id_) == kind]
        if members:
            lines += [f"  classDef {kind} fill:{colour},stroke:#7b8794", f"  class {','.join(members)} {kind}"]
    return "\n".join(lines) + "\n"


def plot(graph: Graph) -> "Figure":
    """Return a figure: a row a generation, arrows down, colours for paid, found, failed and open nodes."""
    import networkx as nx
    from matplotlib.figure import Figure

    rows = list(graph.layers())
    widest = max(map(len, rows), default=1)
    place = {
        id_: ((at + 0.5) * widest / len(row), -float(depth))
        for depth, row in enumerate(rows)
        for at, id_ in enumerate(row)
    }
    figure = Figure(figsize=(max(4.0, 1.5 * widest), max(2.0, 1.3 * len(rows))), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    nx.draw_networkx_edges(graph.dag, place, ax=axes, edge_color="#b0b8c0", arrowsize=8, node_size=1200, width=0.8)
    for id_, (x, y) in place.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": COLOURS[_kind(graph, id_)], "edgecolor": "#7b8794"}
        axes.text(x, y, "\n".join(_lines(graph, id_)), ha="center", va="center", fontsize=7, bbox=box)
    axes.set_xlim(-0.2, widest + 0.2)
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    return figure


def _lines(graph: Graph, id_: str) -> list[str]:
    """Return a node's label and, once it was run, what it took."""
    node, state = graph.nodes[id_], graph.states[id_]
    lines = [node.label or id_]
    if state.failed is not None:
        lines.append(state.failed.reason)
    if state.cost:
        cost = state.cost
        parts = [f"{cost['seconds'] * 1000:.0f} ms"] if "seconds" in cost else []
        parts += [f"{cost['tokens']:.0f} tok"] if cost.get("tokens") else []
        parts += [f"${cost['usd']:.4f}"] if cost.get("usd") else []
        lines.append(", ".join(parts))
    return lines


def _kind(graph: Graph, id_: str) -> str:
    state = graph.states[id_]
    if state.failed is not None:
        return "failed"
    if state.output is None:
        return "open"
    return "paid" if state.paid else "found"


def escaped(text: str) -> str:
    """Return text that Mermaid shows as it is: quotes and markup of its own as entities."""
    return re.sub(r'["#;{}\[\]|`]', lambda match: f"#{ord(match[0])};", text)
