"""Whether a task has anything to learn: a dozen plain prompts of one agent against the plainest, on training items.

Source: specs/ann, section 10. A paired sign test, corrected for the number of prompts; its verdict is about plain
prompts alone, since structure may help where no prompt does.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

from ...agents.teams.aggregate import planned_calls
from ...agents.teams.wording import Wording
from ...errors import SpecError
from ...intervals import SHARE, mean_interval
from ...records import JSON
from ...search.gate import gain_of, pair_up, sign
from ...search.splits import Splits
from ...teams import TeamSpec
from ..study import Strand
from .team_base import Session, TeamMethod
from .team_ending import is_stopped, unreadable
from .team_headroom_result import HeadroomResult
from .team_phases import Told, passes, scores_of, settled_splits, single, validation_for
from .team_spec import TeamHeadroomSpec

FILE = "team_headroom.txt"
GAINS = (0.10, 0.20)
"""Changes whose power is told."""
Studied = Callable[[str, list[Strand]], dict[str, Told]]


def plain_prompts(folder: Path | None = None) -> tuple[str, ...]:
    """Return the prompts to try: those of `team_headroom.txt` in a folder, or else Plait's twelve.

    Raises:
        SpecError: the file cannot be read, or holds none.
    """
    lines = [line.strip() for line in Wording(folder).text(FILE).splitlines()]
    found = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not found:
        raise SpecError(f"prompts: {FILE}", "no prompt", "one a line, or more lines")
    return found


def prompted(team: TeamSpec, prompt: str) -> TeamSpec:
    """Return one agent that is told `prompt`, with braces taken as text."""
    plain = single(team)
    (layer,) = plain.layers
    (block,) = layer.blocks
    text = prompt.replace("{", "{{").replace("}", "}}")
    agent = block.agents[0].model_copy(update={"instructions": text})
    block = block.model_copy(update={"agents": (agent,)})
    return plain.model_copy(update={"layers": (layer.model_copy(update={"blocks": (block,)}),)})


def headroom(
    study: Studied, team: TeamSpec, prompts: Sequence[str], items: Sequence[str], level: float
) -> dict[str, JSON]:
    """Run one agent with each prompt on the items and return what came of it; no verdict where something stopped it.

    Args:
        study: Runs strands of a phase and returns what each was told.
        team: Whose answer, models and bounds the agent has.
        prompts: What it is told in turn.
        items: Training items.
        level: Error level of the whole, divided among the prompts.
    """
    teams = {"plain": single(team), **{str(at): prompted(team, text) for at, text in enumerate(prompts, start=1)}}
    told = study("headroom", [passes(name, one, items) for name, one in teams.items()])
    plain = scores_of(told["plain"])
    rows = [{**_row(at, text, plain, scores_of(told[str(at)]), level / len(prompts), len(prompts)),
             "unreadable": unreadable(told[str(at)])}
            for at, text in enumerate(prompts, start=1)]  # fmt: skip
    best = max(rows, key=lambda row: (row["passed"], row["gain"]["mean"] or 0.0, -row["number"]))
    power = [sign(level / len(prompts), len(items)).power(len(items), gain) for gain in GAINS]
    return {
        "items": len(items), "level": level,
        "plain": mean_interval(_known(plain.values()), "team", "plain", support=SHARE),
        "plain_unreadable": unreadable(told["plain"]), "rows": rows,
        "best": best["number"], "learnable": best["passed"],
        "whole": not any(is_stopped(end) for one in told.values() for _, end in one),
        "power": [{"gain": gain, "power": round(share, 4)} for gain, share in zip(GAINS, power, strict=True)],
    }  # fmt: skip


def _row(
    number: int, prompt: str, plain: dict[str, float | None], scores: dict[str, float | None], level: float, of: int
) -> dict[str, JSON]:
    pairs = pair_up(plain, scores)
    seen = sign(level, max(1, len(pairs))).decide(0, pairs)
    return {
        "number": number, "prompt": prompt,
        "accuracy": mean_interval(_known(scores.values()), "team", str(number), support=SHARE),
        "gain": gain_of(pairs, "headroom"),
        "wins": seen.wins, "losses": seen.losses, "ties": seen.ties, "missing": seen.missing,
        "p": float(f"{min(1.0, seen.p * of):.6g}"), "passed": seen.choice == "keep",
        "undecidable": seen.choice == "undecidable",
    }  # fmt: skip


def _known(scores: Iterable[float | None]) -> list[float]:
    return [score for score in scores if score is not None]


class SplitMethod(TeamMethod):
    """A run whose items are dealt into splits."""

    @cached_property
    def splits(self) -> Splits:
        """Which items are for what; where the spec does not say how many the gate has, it does from now on."""
        if self.spec.validation is None:
            room = len(self.items) - self.spec.train - self.spec.confirm
            room -= 0 if self.test_items else self.spec.test
            self.spec = self.spec.model_copy(update={"validation": self._validation(room)})
        return settled_splits(self.spec, self.items, self.test_items)

    def _validation(self, room: int) -> int:
        """Return how many validation items there are where the spec does not say: room is left for so many."""
        return validation_for(None, room)

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """The plain prompts to try."""
        return plain_prompts(self.wording.folder)

    def _headroom(self, session: Session, most: int) -> dict[str, JSON]:
        """Try the plain prompts on the first so many training items."""
        items = self.splits.train[:most]
        return headroom(partial(self._study, session), self.team, self.prompts, items, self.spec.level)


class TeamHeadroom(SplitMethod):
    """Whether a task has anything to learn.

    Args:
        team: A team, or a file of one: its answer, model and token bound are those of the one agent that is tried.
        data: A source of items, or the items.
        settings: Any other field of `TeamHeadroomSpec`.
    """

    method: ClassVar[str] = "team-headroom"
    spec_type: ClassVar[type[TeamHeadroomSpec]] = TeamHeadroomSpec
    result_type: ClassVar[type[HeadroomResult]] = HeadroomResult

    def plan(self) -> dict[str, JSON]:
        """Return what the run would ask for at most, without asking."""
        items, prompts = len(self.splits.train[: self.spec.items]), len(self.prompts)
        each, most = planned_calls(single(self.team))
        calls = items * (prompts + 1)
        return {"items": items, "prompts": prompts, "calls": calls * each, "calls_at_most": calls * most}

    def run(self, out: str | Path | None = None, *, address: str | None = None) -> HeadroomResult:
        """Run, or continue, and return the result.

        Args:
            out: The run folder; by default a new one under `runs/`. An existing run of the same spec is continued.
            address: Of an existing Ray cluster, where a model is a host of ours; RAY_ADDRESS counts too.
        """
        self.plan()
        with self._working(out, address, {"prompts_tried": list(self.prompts)}) as session:
            result: HeadroomResult = self._ended_with(session, self._headroom(session, self.spec.items))
            return result
