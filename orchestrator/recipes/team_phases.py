"""The studies of a team's training as strands: searches, then passes of chosen teams over items held out until then."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from ...agents.teams.items import TaskItem
from ...errors import SpecError
from ...records import Outcome, Scored, Trial, digest
from ...search.fixed import FixedSearch
from ...search.gate import GAINS, THREE_LOOKS, Gate
from ...search.splits import Grams, Splits, split_items
from ...search.textual import TextualSearch
from ...search.textual_profiles import TextualProfile, textual_profile
from ...search.textual_trials import Forward
from ...teams import AgentSpec, Aggregator, Block, LayerSpec, TeamSpec
from ..ledger import Entry, Ledger
from ..study import Strand
from .team_spec import SplitFields, TeamTrainSpec

Told = Sequence[tuple[Trial, Outcome]]

MOST_SAMPLES = 16
"""Of a best-of-n control."""
MOST_STATIC = 12
"""Teams of one block a layer that an oracle chooses among."""
VALIDATION = (100, 300)
"""Validation items at least and at most, where the spec does not say."""
JUDGED = 14
"""Challengers that a budget should pay for on all validation items: as measured in docs/results/ann.md."""
WARMTH = 0.7
"""Temperature of samples that should differ."""


def profile_of(spec: TeamTrainSpec, name: str) -> TextualProfile:
    """Return the settings of a search, with what the spec says of them."""
    profile = textual_profile(name)
    edits = tuple(op for op in profile.edits or spec.edits if op in (spec.edits or profile.edits))
    if spec.edits and not edits:
        raise SpecError("team.edits", list(spec.edits), f"one that {name} makes: {', '.join(profile.edits)}")
    return replace(profile, memory=spec.memory, redraw_incumbent=spec.redraw, edits=edits)


def validation_for(calls: float | None, room: int) -> int:
    """Return how many validation items a search has where nobody says.

    As many as let the start team and `JUDGED` challengers be judged to the last look, between the bounds of
    `VALIDATION`: fewer items decide worse and sooner, and on a small budget sooner counts for more.

    Args:
        calls: Agents' calls that the search may make, divided by those of a pass; None where there is no bound.
        room: Items that no other split wants; fewer than the lower bound are left for `settled_splits` to refuse.
    """
    least, most = VALIDATION
    paid = most if calls is None else int(calls / (1 + JUDGED))
    return max(least, min(paid, most, room))


def settled_splits(spec: SplitFields, items: Sequence[TaskItem], test: Sequence[TaskItem]) -> Splits:
    """Return which items are for what.

    Raises:
        SpecError: there are too few, the gate of a search could decide nothing, or a question is on two sides.
    """
    assert spec.validation is not None, "how many validation items there are is settled before which"
    sizes = {"train": spec.train, "validation": spec.validation, "confirm": spec.confirm}
    if not test:
        sizes["test"] = spec.test
    if sum(sizes.values()) > len(items):
        raise _too_few(sizes, len(items))
    questions = {item.id: item.question for item in (*items, *test)}
    splits = split_items({item.id: item.question for item in items}, sizes, spec.seed)
    if test:
        splits = replace(splits, test=tuple(item.id for item in test)[: spec.test or None])
    splits.check(questions)
    return splits


def _too_few(sizes: Mapping[str, int], there: int) -> SpecError:
    """Return the refusal of splits that there are too few items for, with smaller ones and what they could show."""
    wanted = ", ".join(f"{name} {size}" for name, size in sizes.items() if size)
    train, validation = max(1, there // 8), 3 * there // 8
    expected = f"{sum(sizes.values())} or more ({wanted})"
    if validation < THREE_LOOKS.least:
        return SpecError("team: items", there, f"{expected}; so few teach nothing")
    smaller = f"train {train}, validation {validation}, confirm {there - train - validation}"
    power = f" ({note})" if (note := THREE_LOOKS.note(validation)) else ""
    return SpecError("team: items", there, f"{expected}, or smaller splits such as {smaller}{power}")


def notes_of(splits: Splits, gate: Gate) -> tuple[str, ...]:
    """Return what splits are too small for, with the power that is left.

    Raises:
        SpecError: they are too few for the gate to decide anything.
    """
    if len(splits.validation) < gate.least:
        least, gain = gate.least, GAINS[-1]
        power = f"{gate.power(least, gain):.0%} of changes of {100 * gain:+.0f} points"
        expected = (
            f"{least} or more for gate {gate.name}, which wants {gate.sizes[-1]}; with {least} it would keep {power}"
        )
        raise SpecError("team.validation", len(splits.validation), expected)
    return splits.notes(gate)


def leak_check(splits: Splits, items: Mapping[str, TaskItem]) -> Grams:
    """Return what tells whether a text gives a held-out question away."""
    return Grams.of(
        (items[id_].question for id_ in splits.held_out), (items[id_].question for id_ in splits.train)
    )  # fmt: skip


@dataclass
class Announced:
    """A search that tells of every step's edits once they are decided.

    Attributes:
        search: Is asked and told.
        tell_of: Called with the search and a step's number.
    """

    search: TextualSearch
    tell_of: Callable[[TextualSearch, int], None]
    _announced: int = 0

    @property
    def done(self) -> bool:
        """Whether the search is."""
        return self.search.done

    def ask(self, n: int) -> list[Trial]:
        """Ask the search."""
        return self.search.ask(n)

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Tell the search, and of what it has decided."""
        self.search.tell(trial, outcome)
        decided = len(self.search.steps) - (not self.search.done)
        while self._announced < decided:
            self.tell_of(self.search, self._announced)
            self._announced += 1


def passes(name: str, team: TeamSpec, items: Iterable[str]) -> Strand:
    """Return one pass of a team over each item."""
    return Strand(name, FixedSearch([Forward(team, item) for item in items]), "teams")


def scores_of(told: Told) -> dict[str, float | None]:
    """Return scores by item; None where a pass failed."""
    return {
        trial.candidate.item: float(outcome.values["score"]) if isinstance(outcome, Scored) else None  # type: ignore[attr-defined]
        for trial, outcome in told
    }


# -- controls


def single(team: TeamSpec, n: int = 1) -> TeamSpec:
    """Return one agent with a plain prompt; with `n` above 1 that many samples of it, and a majority."""
    agent = AgentSpec(
        name="solver", instructions="Work it out and answer.", output=team.answer, n=n,
        temperature=WARMTH if n > 1 else 0.0, max_tokens=max(agent.max_tokens for agent in team.agents()),
    )  # fmt: skip
    kind = Aggregator(kind="majority" if team.answer.kind != "text" else "best_of") if n > 1 else Aggregator()
    layer = LayerSpec(
        name="solve", task="Answer the question.", blocks=(Block(name="one", agents=(agent,), aggregate=kind),)
    )
    return TeamSpec(layers=(layer,), answer=team.answer, limits=team.limits)


def samples_for(tokens: float, of_one: float) -> int:
    """Return how many samples of one agent the tokens of a team pay for."""
    return max(2, min(MOST_SAMPLES, round(tokens / of_one))) if of_one else 2


def static(team: TeamSpec) -> TeamSpec:
    """Return the team without selection: each layer's default block."""
    return fixed(team, [layer.fallback for layer in team.layers])


def fixed(team: TeamSpec, blocks: Sequence[Block]) -> TeamSpec:
    """Return the team with one block a layer."""
    layers = [
        layer.model_copy(update={"blocks": (block,), "default": block.name, "selector": "static"})
        for layer, block in zip(team.layers, blocks, strict=True)
    ]
    return team.model_copy(update={"layers": tuple(layers)})


def statics(team: TeamSpec) -> list[TeamSpec]:
    """Return a team for each choice of one block a layer, the first `MOST_STATIC` of them."""
    found = [fixed(team, blocks) for blocks in product(*(layer.blocks for layer in team.layers))]
    return found[:MOST_STATIC]


# -- once


def take_split(
    ledger: Ledger,
    run: str,
    split: str,
    items: Sequence[str],
    start: TeamSpec,
    teams: Sequence[TeamSpec],
    *,
    again: bool,
) -> bool:
    """Note in the ledger that these teams meet a split; return whether others of this start have met it before.

    Raises:
        SpecError: they have, and `again` does not allow it.
    """
    key = digest(["team-split", split, sorted(items), start.hash])
    hashes = sorted({team.hash for team in teams})
    found = ledger.find([key]).get(key)
    if found is None:
        ledger.record([Entry(key, "team-split", Scored({"split": split, "teams": hashes}), run)], run)
        return False
    if found.outcome.values["teams"] == hashes:
        return False
    if not again:
        raise SpecError(
            f"team: {split}", "a second pass", f"one pass a study: this start team has met these {len(items)} items "
            "with another result before; again=true allows it and stamps the report",
        )  # fmt: skip
    return True
