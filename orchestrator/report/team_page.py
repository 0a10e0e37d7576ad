"""One self-contained HTML page a training run of a team: readable on a phone, without network or scripts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ...records import JSON
from ...team_pictures import plot
from ...teams import TeamSpec
from ..recipes.team_headroom_result import headroom_line, power_line
from ..recipes.team_result import statement
from ..recipes.team_rows import label, named_rows
from .drawing import svg
from .team_evidence import KINDS_OF_VERDICT, search_view
from .team_figures import accuracy_figure, curve_figure
from .template import environment

SPLITS = {
    "train": "critiques read their questions, answers and traces",
    "validation": "the gate decides on them which edits are kept; used again at every step",
    "confirm": "start and final team meet on them once: the verdict",
    "test": "scored once, after the verdict; they decide nothing",
}

Chosen = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By layer and block: how often it was chosen, and how right the team was with it."""


def render(result: dict[str, JSON], timing: dict[str, JSON]) -> str:
    """Return the page of a result; `timing` may be empty."""
    summary = result["summary"]
    made = environment()
    made.filters |= {"number": number, "decimals": decimals}
    return made.get_template("team.html.j2").render(
        result=result,
        spec=result["spec"],
        summary=summary,
        timing=timing,
        statement=statement(summary).replace(" %", "\u00a0%"),
        confirmed=summary["confirmed"] is not None and summary["confirmed"]["passed"],
        models=models_of(result),
        rows=named_rows(summary),
        called=partial(label, own=result["spec"]["profile"]),
        tested=any(row["test"] is not None for row in summary["rows"]),
        searches=[search_view(one) for one in summary["searches"]],
        verdicts=KINDS_OF_VERDICT,
        refusals=_refusals(summary["searches"]),
        selection=_selection(summary["selection"], summary["selection_final"]),
        headroom=_headroom(summary["headroom"]),
        missing=_missing(named_rows(summary)),
        splits=_splits(result["resolved"]),
        figures=_figures(summary),
        pictures=list(_pictures(summary)),
        lines=[(_mark(line), line) for line in summary["diff"].splitlines()],
        texts=[(which, json.dumps(summary[which]["team"], indent=2, ensure_ascii=False))
               for which in ("start", "final")],
    )  # fmt: skip


def number(value: float | None) -> str:
    """Return a mean with one decimal, or a count; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}".replace(",", "\u202f") if value >= 1000 or value == int(value) else f"{value:.1f}"


def decimals(value: float | None, digits: int = 2) -> str:
    """Return a number with so many decimals; a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def models_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Return who was run: `agents`, `optimiser`, `named` (models that agents or aggregators name), and the caption."""
    spec = result["spec"]
    agents, optimiser = str(spec["model"]), str(spec["optimiser"] or spec["model"])
    others = ("", "optimiser", "judge", agents)
    named = ", ".join(name for name in result["resolved"].get("models", {}) if name not in others)
    caption = f"Agents: {agents}{f' (some: {named})' if named else ''}; optimiser (critiques and repairs): {optimiser}"
    if spec.get("judge"):
        caption += f"; judge of texts: {spec['judge']}"
    return {"agents": agents, "optimiser": optimiser, "named": named, "caption": f"{caption}."}


def _refusals(searches: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[int]]]:
    """Return refusals: by code, a count a search."""
    codes = sorted({code for one in searches for code in one["refusals"]})
    return [(code, [one["refusals"].get(code, 0) for one in searches]) for code in codes]


def _selection(start: Chosen, final: Chosen) -> list[dict[str, Any]]:
    """Return how often start and final team chose each block, with its share of the layer's choices; None for never."""
    places = dict.fromkeys((layer, block) for team in (start, final) for layer in team for block in team[layer])
    rows = []
    for layer, block in places:
        row: dict[str, Any] = {"layer": layer, "block": block}
        for name, team in (("start", start), ("final", final)):
            blocks = team.get(layer, {})
            total = sum(one["chosen"] for one in blocks.values())
            row[name] = {**blocks[block], "share": blocks[block]["chosen"] / total} if block in blocks else None
        rows.append(row)
    return rows


def _headroom(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what plain prompts showed before training; None where none were tried."""
    if found is None:
        return None
    best = found["rows"][found["best"] - 1]
    return {"plain": found["plain"], "best": best, "of": len(found["rows"]),
            "line": headroom_line(dict(found)), "power": power_line(dict(found))}  # fmt: skip


def _missing(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return which items have no score, a team and a split each, with the reasons."""
    told = []
    for row in rows:
        for split in ("confirm", "test"):
            found, count = row[f"{split}_missing_items"], row[f"{split}_missing"]
            if count:
                reasons = ", ".join(f"{reason} {times}" for reason, times in found["reasons"].items())
                more = count - len(found["ids"])
                ids = ", ".join(found["ids"]) + (f" and {more} more" if more else "")
                told.append((f"{row['label']}, {split}", f"{count} ({reasons}): {ids}"))
    return told


def _splits(resolved: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    return [(name, resolved["splits"][name], use) for name, use in SPLITS.items() if name in resolved.get("splits", {})]


def _figures(summary: dict[str, JSON]) -> list[dict[str, str]]:
    """Return title, caption and SVG of each picture there is something to show in."""
    rows = named_rows(summary)
    made = [
        ("Accuracy of every team", "95 % intervals over items; the dashed line is the start team on confirm "
         "items. A hollow mark is an oracle, which reads the answer key.",
         accuracy_figure(rows, [row["label"] for row in rows])),
        ("Learning curve", "This is no result. Validation scores of the teams to beat, step by step, with 95 % "
         "intervals over the items they were scored on: they decided which edits stay, and repeated looks at the same "
         "items flatter them. What counts is the confirm split.", curve_figure(summary["searches"])),
    ]  # fmt: skip
    return [
        {"title": title, "caption": caption, "svg": svg(figure, title)} for title, caption, figure in made if figure
    ]


def _pictures(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pictures of the team before and after, each with the widths between which it is well read."""
    named = {"start": "The team before: the start team", "final": "The team after: the final team"}
    for which, title in named.items():
        figure = plot(TeamSpec.parse(summary[which]["team"]))
        width, height = figure.get_size_inches()
        figure.set_size_inches(0.85 * width, 0.7 * height)  # closer together, so that two fit side by side
        yield {"title": title, "svg": svg(figure, title), "width": round(68 * width), "most": round(110 * width)}


def _mark(line: str) -> str:
    """Return whether a line of a diff is something new, something gone, or neither."""
    return {"+": "new", "-": "gone"}.get(line.lstrip()[:1], "")
