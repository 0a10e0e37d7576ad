"""The JSON schemas of critiques and patches: one to show, and one that an answer can be held to, token by token.

Held to it, an answer names layers, blocks and agents that there are, and every text has an end: a model too weak to
stop would else write until its tokens are spent, and what is cut off cannot be read. Pure.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from ...records import JSON
from ...team_edits import patch_schema
from ...team_findings import AIMED, KINDS, FindingKind
from ...teams import TeamSpec
from .gradient_given import MOST_FINDINGS

FINDING = 128
"""Tokens of an answer for each finding that it may hold: names and marks take some thirty, whatever the bound is."""
NAME = 40
"""Characters of a name at most, where an answer is held to it."""
LISTED = 8
"""Entries of any other list."""
ALONE = {"set_instructions", "set_role", "set_when", "set_default"}
"""Edits that need no other beside them."""
Change: TypeAlias = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Given a property's name and schema, returns its schema."""


def critique_schema(team: TeamSpec, max_tokens: int) -> dict[str, JSON]:
    """Return the schema of a critique of `team` in `max_tokens`: its findings name layers and agents that there are."""
    agents = [agent.name for agent in team.agents()]
    finding = {
        "layer": {"enum": [*(layer.name for layer in team.layers), ""]}, "agent": {"enum": [*agents, None]},
        "kind": {"enum": list(KINDS)}, "text": _string(max_tokens // 2),
    }  # fmt: skip
    most = max(1, min(MOST_FINDINGS, max_tokens // FINDING))
    rows = {"type": "array", "items": _object(finding), "maxItems": most}
    return _object({"critique": _string(max_tokens), "findings": rows})


@cache
def edits_schema(ops: tuple[str, ...] = ()) -> dict[str, JSON]:
    """Return the schema of a patch of the named edits, without titles and notes; none named: of any.

    Made once for all prompts that show it, so nobody may change it.

    `op` is required in each: a model that is held to the schema would else be free to leave out what tells edits apart.
    """
    whole = patch_schema()
    defs: dict[str, dict[str, Any]] = {name: _bare(one) for name, one in whole["$defs"].items()}
    edits = {one["properties"]["op"]["const"]: name for name, one in defs.items() if "op" in one.get("properties", {})}
    for name in edits.values():
        defs[name]["required"] = [*dict.fromkeys(["op", *defs[name].get("required", [])])]
    chosen = [name for op, name in edits.items() if not ops or op in ops]
    items = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in chosen]}
    most = whole["properties"]["edits"]["maxItems"]
    rows = {"type": "array", "items": items, "minItems": 1, "maxItems": most}
    return {
        **_object({"rationale": {"type": "string"}, "edits": rows}),
        "$defs": {name: defs[name] for name in defs if name in _reached(chosen, defs)},
    }  # fmt: skip


def aimed_ops(team: TeamSpec, kind: FindingKind) -> tuple[str, ...]:
    """Return the edits that mend a fault of this kind, those left out that no patch of this team could make alone."""
    blocks = [block for layer in team.layers for block in layer.blocks]
    lone = {
        "remove_layer": len(team.layers) == 1, "set_reads": len(team.layers) == 1,
        "remove_agent": all(len(block.agents) == 1 for block in blocks),
    } | dict.fromkeys(("remove_block", "set_default", "set_when"), len(blocks) == len(team.layers))  # fmt: skip
    return tuple(op for op in AIMED[kind] if not lone.get(op, False))


def held_edits(team: TeamSpec, ops: tuple[str, ...], max_tokens: int, only: str | None = None) -> dict[str, JSON]:
    """Return the schema that a patch of `team` in `max_tokens` is held to.

    Args:
        team: Whose names it may use.
        ops: As in `edits_schema`.
        max_tokens: Of the answer.
        only: The one agent that may be changed; None for any.
    """
    schema = edits_schema(ops)
    change = _held(team, max_tokens, only)
    defs = {name: {**one, "properties": _changed(one["properties"], change)} for name, one in schema["$defs"].items()}
    properties = _changed(schema["properties"], change)
    if ops and set(ops) <= ALONE:
        properties["edits"]["maxItems"] = 1
    if "Aggregator" in defs:
        defs["Aggregator"]["properties"].pop("output")  # fits one kind alone, and is seldom what is meant
    return {**schema, "properties": properties, "$defs": defs}


def schema_text(schema: Mapping[str, JSON]) -> str:
    """Return a schema's text, its fields in their order: a model that is held writes them in it, reasons first."""
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def _held(team: TeamSpec, max_tokens: int, only: str | None) -> Change:
    """Return what holds properties to the names that there are, and to lengths."""
    layers = [layer.name for layer in team.layers]
    agents = team.agents()
    named: dict[str, Sequence[str]] = {
        "layer": layers, "after": ["input", *layers], "agent": [only] if only else [agent.name for agent in agents],
        "block": [block.name for layer in team.layers for block in layer.blocks],
        "model": ["", *(agent.model for agent in agents if agent.model)],
    }  # fmt: skip
    # A token of English is some four characters. Most of an answer may be one text, its names and marks are the rest.
    most = {"text": 2 * max_tokens, "instructions": 2 * max_tokens, "rationale": max_tokens // 2}

    def held(name: str, schema: dict[str, Any]) -> dict[str, Any]:
        if schema.get("type") == "array":
            items = {"enum": layers} if name == "reads" else held("", schema["items"])
            return {**schema, "items": items, "maxItems": schema.get("maxItems", LISTED)}
        if schema.get("type") != "string" or "const" in schema or "enum" in schema:
            return schema
        if name in named:
            return {"enum": [*dict.fromkeys(named[name])]}
        return _string(most.get(name, NAME if name in {"name", "default", ""} else max_tokens // 2))

    return held


def _changed(properties: Mapping[str, Any], change: Change) -> dict[str, Any]:
    return {name: change(name, schema) for name, schema in properties.items()}


def _string(most: int) -> dict[str, JSON]:
    return {"type": "string", "maxLength": most}


def _object(properties: Mapping[str, JSON]) -> dict[str, JSON]:
    return {"type": "object", "properties": dict(properties), "required": [*properties], "additionalProperties": False}


def _bare(schema: Any, *, names: bool = False) -> Any:
    """Return a schema without notes, and without patterns, which not every server can hold a model to.

    `names`: its keys are names of properties.
    """
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = () if names else ("title", "description", "discriminator", "default", "pattern")
    return {key: _bare(one, names=key == "properties") for key, one in schema.items() if key not in dropped}


def _reached(names: Collection[str], defs: Mapping[str, Any]) -> set[str]:
    """Return the definitions that `names` need."""
    reached: set[str] = set()
    waiting = [*names]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            text = json.dumps(defs[name])
            waiting += [other for other in defs if f'"#/$defs/{other}"' in text]
    return reached


OPS: tuple[str, ...] = tuple(
    one["properties"]["op"]["const"] for one in patch_schema()["$defs"].values() if "op" in one.get("properties", {})
)
"""Every edit there is."""


__all__ = ["OPS", "aimed_ops", "critique_schema", "edits_schema", "held_edits", "schema_text"]
