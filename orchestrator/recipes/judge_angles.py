"""A role cache: the angles that a run's model named over a data set, counted, and used for every item after.

Angles from a cache save a call an item, are not conditioned on one order of the answers, and make items comparable.
Source: spec section 9.7; the counting is ours. Reads finished runs; asks no model.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from ...errors import SpecError
from ..runfolder import storing, write_text
from .judge_graphs import wording
from .judge_records import ItemVerdict
from .judge_result import JudgeResult

MOST = 16
"""Angles of a family at most."""


def common_angles(rows: Sequence[ItemVerdict], most: int = MOST) -> list[tuple[str, int]]:
    """Return the angles named for most items, with their counts; names that differ in case or a plural s are one.

    Items on which the fallback was taken count nothing: nobody named it.
    """
    counts: Counter[str] = Counter()
    spelled: dict[str, Counter[str]] = {}
    for row in rows:
        for name in () if row.network.fallback else row.network.angles:
            key = name.lower().rstrip("s")
            counts[key] += 1
            spelled.setdefault(key, Counter())[name] += 1
    ranked = sorted(counts, key=lambda key: (-counts[key], key))[:most]
    return [(spelled[key].most_common(1)[0][0], counts[key]) for key in ranked]


def write_cache(run: Path, folder: Path, most: int = MOST) -> list[tuple[str, int]]:
    """Write the angles of a finished run into `folder/families.yaml`, for `--prompts folder --roles standard`.

    Returns:
        The angles with the number of items they were named for.

    Raises:
        RunFolderError: there is no such run.
        SpecError: the run's angles were given to it, or its model named none.
        StoreError: the folder cannot be written.
    """
    result = JudgeResult.load(run)
    network = result.data["resolved"]["network"]
    if network["roles"] != "generated":
        raise SpecError(f"{run}: roles", network["roles"], "a run with generated roles: --network paper or released")
    angles = common_angles(result.items, most)
    if not angles:
        raise SpecError(str(run), "no angle", "a run whose model named one or more")
    families = wording(result.data["spec"]["prompts"]).families
    family = network["family"]
    changed = {**families, family: {**families[family], "angles": [name for name, _ in angles]}}
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "families.yaml", yaml.safe_dump(changed, sort_keys=False, allow_unicode=True))
    return angles
