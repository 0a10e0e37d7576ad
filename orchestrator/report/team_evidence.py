"""What a report shows of each search: its steps, and every edit with its evidence, in words. Knows no templates."""

import json
from collections.abc import Mapping
from typing import Any

KINDS_OF_VERDICT = {
    "adopted": "adopted",
    "passed": "passed, but another was adopted",
    "pooled": "joined the pool",
    "rejected": "rejected",
    "undecidable": "undecided",
    "refused": "refused",
    "failed": "no answer",
    "open": "not decided",
}
"""What becomes of an edit, in the words of the page."""
STOPS = {
    "steps": "all steps done",
    "patience": "too many steps in a row without a valid edit",
    "perfect": "all validation items right",
    "target": "a training batch reached the target",
}


def search_view(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a search as the page shows it."""
    shown = ("profile", "about", "tokens", "failures", "verdicts", "asked")
    return {
        **{name: one[name] for name in shown},
        "stop": one["ended_by"] or STOPS.get(one["stop"], one["stop"]),
        "edits": sum(len(step["edits"]) for step in one["steps"]),
        "steps": [step_view(step) for step in one["steps"]],
    }


def step_view(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step: what was seen before anything was proposed, and its edits."""
    score = "" if step["score"] is None else f"; the team to change scored {100 * step['score']:.0f} % on them"
    seen = [f"read {len(step['batch'])} training items{score}"] if step["batch"] else []
    if step["criticised"]:
        seen.append("criticised: " + ", ".join(scope or "the whole team" for scope in step["criticised"]))
    blame = {layer: share for layer, share in step["blame"].items() if share is not None}
    if blame:
        shares = ", ".join(f"{layer} {100 * share:.0f} %" for layer, share in blame.items())
        seen.append(f"failures that another output of the layer turned: {shares}")
    if step["parent"] != step["incumbent"]:
        seen.append("the team to change came from the archive")
    return {
        "number": step["step"] + 1, "seen": "; ".join(seen), "note": step["note"],
        "edits": [edit_view(edit) for edit in step["edits"]],
    }  # fmt: skip


def edit_view(edit: Mapping[str, Any]) -> dict[str, Any]:
    """Return an edit with its evidence."""
    verdict = KINDS_OF_VERDICT.get(edit["verdict"], edit["verdict"])
    judged = edit["look"] >= 0
    patch = edit["patch"] or {}
    return {
        "title": "; ".join(edit["edits"]) or ("no edit" if edit["patch"] is None else "an edit that cannot be read"),
        "verdict": verdict + (f": {edit['refusal']}" if edit["verdict"] == "refused" else ""),
        "state": edit["verdict"],
        "lead": f"{edit['wins'] - edit['losses']:+d} of {edit['items']}" if judged else "",
        "aim": aim_of(edit), "lines": edit["edits"], "evidence": evidence_of(edit) if judged else "",
        "why": edit["why"], "rationale": str(patch.get("rationale", "")),
        "patch": json.dumps(patch, indent=2, ensure_ascii=False) if patch else "",
        "attempts": edit["attempts"], "refusal": edit["refusal"], "again": edit["again"], "merge": edit["index"] < 0,
    }  # fmt: skip


def aim_of(edit: Mapping[str, Any]) -> str:
    """Return what an edit was aimed at."""
    finding = edit["finding"]
    place = f"layer {finding['layer']}" if finding["layer"] else "the whole team"
    agent = f", agent {finding['agent']}" if finding["agent"] else ""
    return f"{finding['kind']} of {place}{agent}: {finding['text'] or 'nobody looked at what went wrong'}"


def evidence_of(edit: Mapping[str, Any]) -> str:
    """Return the comparison that decided over an edit."""
    missing = f", {edit['missing']} more without a score" if edit["missing"] else ""
    counts = f"{edit['wins']} won, {edit['losses']} lost, {edit['ties']} tied"
    return f"{counts} of {edit['items']} validation items{missing}; p {edit['p']:.3g} at look {edit['look'] + 1}"
