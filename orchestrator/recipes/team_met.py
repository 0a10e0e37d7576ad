"""Which held-out items other runs beside this one have met: what a run folder's own ledger cannot know.

Each run folder holds `met.json`: by split, its items, the team that training began with and those that it ended with.
A run looks at the folders beside its own. What it finds is said and stamped on the report, and refuses nothing: the
search is paid by then.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...teams import TeamSpec
from ..runfolder import write_json

FILE = "met.json"
MOST = 1000
"""Folders beside a run that are looked at."""


def met_elsewhere(
    folder: Path, split: str, items: Sequence[str], start: TeamSpec, finals: Sequence[TeamSpec]
) -> list[str]:
    """Note in a run's folder that teams meet a split; return a line for each run beside it that met some of it before.

    A run that began with the same team and ended with the same ones looked at the same thing: it is none of them.

    Args:
        folder: Of the run.
        split: Its name.
        items: Ids of its items.
        start: The team that training began with.
        finals: Those that the searches ended with.
    """
    teams = sorted({team.hash for team in finals})
    own = _read(folder / FILE)
    own[split] = {"start": start.hash, "teams": teams, "items": sorted(items)}
    write_json(folder / FILE, own)
    lines = []
    for place in _beside(folder):
        other = _read(place).get(split)
        if not isinstance(other, dict) or other.get("start") != start.hash or other.get("teams") == teams:
            continue
        shared = len(set(items) & set(other.get("items") or ()))
        if shared:
            where = f"{shared} of its {len(items)} items were met before with another result"
            lines.append(f"{split}: a second pass, {where} ({place.parent.name})")
    return lines


def _beside(folder: Path) -> Iterator[Path]:
    """Yield the notes of the run folders beside one, in the order of their names."""
    try:
        found = sorted(folder.resolve().parent.glob(f"*/{FILE}"))
    except OSError:  # a folder that cannot be listed holds no run of ours to read
        return
    yield from (place for place in found[:MOST] if place.parent != folder.resolve())


def _read(place: Path) -> dict[str, Any]:
    try:
        value = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


__all__ = ["met_elsewhere"]
