"""What the teams of a training run are called, wherever its rows are shown: terminal, table, picture, sentence."""

from collections.abc import Mapping
from typing import Any

NAMES = {
    "start": ("start team", "the team that training began with"),
    "single": ("one agent, plain prompt", "one agent with a plain prompt"),
    "best-of-n": ("best-of-n", "as many samples of that agent, with a majority, as the start team's tokens pay for"),
    "static": ("static", "the start team without selection: the default block of each layer"),
    "oracle selection": (
        "oracle selection",
        "oracle: for each item the answer key picks the best choice of blocks; no team can do this",
    ),
}
"""Name for people and explanation of the rows that are no search's."""


def label(name: str, own: str) -> str:
    """Return what people call a row.

    Args:
        name: Of the row: `start`, a control, or the profile of the search that its team comes from.
        own: Profile of the run's own search, whose team is the final one.
    """
    if name in NAMES:
        return NAMES[name][0]
    if name == own:
        return f"final team ({name})"
    return "random edits, same gate" if name == "random" else f"{name}'s final team"


def named_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a summary, each with its `label`, what it is (`about`), and whether it is the `answer`."""
    searches = {one["profile"]: one for one in summary["searches"]}
    own = own_search(summary)["profile"]
    answer = {"start": "start", "final": own}[summary["answer"]]
    rows = []
    for row in summary["rows"]:
        name = row["name"]
        about = NAMES[name][1] if name in NAMES else searches[name]["about"]
        if name in searches and searches[name]["final"] == summary["start"]["hash"]:
            about += "; it ended with the start team"
        rows.append({**row, "label": label(name, own), "about": about, "answer": name == answer})
    return rows


def own_search(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the search whose team is the final one."""
    own: dict[str, Any] = summary["searches"][0]
    return own
