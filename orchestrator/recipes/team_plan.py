"""What a training run of a team would ask for: calls at least and at most, and the budget below which it is no use."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...agents.teams.aggregate import planned_calls
from ...errors import SpecError
from ...records import JSON
from ...search.splits import Splits
from ...search.textual import DRAWS
from ...search.textual_profiles import TextualProfile
from ...teams import TeamSpec
from ..budget import Limits
from .team_phases import MOST_SAMPLES, profile_of, single, static, statics
from .team_spec import TeamTrainSpec

FLOOR_STEPS = 3
"""Steps that a budget must pay for, or training is no use."""
FLOOR_ITEMS = 32
"""Items of the gate's first look."""
MOST_HEADROOM = 100
"""Training items that plain prompts are tried on before training."""
TEXTS = {"set_instructions", "set_role"}
"""Edits that leave a team as large as it was."""
LATER = 0.4
"""Share of a run's seconds that the passes after the search have, and of its tokens and money at most."""


def plan_of(
    spec: TeamTrainSpec, team: TeamSpec, splits: Splits, notes: Sequence[str], *, prompts: int = 0
) -> dict[str, JSON]:
    """Return the calls that a run makes, and those it makes at most, with the start team's size throughout.

    What edits make larger asks for more than that; a budget of calls bounds it all the same.

    Args:
        spec: Of the run.
        team: That it begins with.
        splits: Of the items.
        notes: What they are too small for.
        prompts: Plain prompts that are tried before; 0 for none.

    Raises:
        SpecError: the run's budget of calls pays for no whole run, even where no edit is proposed.
    """
    least, most = planned_calls(team)
    profiles = [profile_of(spec, name) for name in spec.searches]
    searches = [search_calls(profile, spec, team, splits) for profile in profiles]
    searches_at_most = sum(search_calls(profile, spec, team, splits, most=True) for profile in profiles)
    later, later_at_most = later_calls(spec, team, splits), later_calls(spec, team, splits, most=True)
    first = headroom_calls(team, splits, prompts)
    first_at_most = headroom_calls(team, splits, prompts, most=True)
    whole = first + sum(searches) + later
    floor = min(floor_of(spec, team, splits) + first, whole)
    fewest = min(floor, first + fewest_calls(spec, team, splits))
    calls = spec.run.budget_calls
    if calls is not None and calls < fewest:
        expected = f"{floor} or more: {_of_floor(spec)}; no whole run takes fewer than {fewest}"
        raise SpecError("team.run.budget_calls", calls, expected)
    few = [] if calls is None or calls >= floor else [_too_few(calls, floor, spec)]
    return {
        "calls_an_item": least, "calls_an_item_at_most": most, "headroom_calls": first,
        "search_calls": sum(searches), "search_calls_at_most": searches_at_most, "later_calls": later, "calls": whole,
        "calls_at_most": first_at_most + searches_at_most + later_at_most, "floor": floor, "fewest": fewest,
        "splits": {name: len(items) for name, items in splits.parts()},
        "notes": [*notes, *few, *_growth(profiles, team, most)],
    }  # fmt: skip


def _of_floor(spec: TeamTrainSpec) -> str:
    steps = min(FLOOR_STEPS, spec.steps)
    return f"the start team on {FLOOR_ITEMS} validation items, {steps} step{'s' * (steps > 1)}, and the confirm split"


def _too_few(calls: int, floor: int, spec: TeamTrainSpec) -> str:
    return (
        f"run.budget_calls {calls} is below {floor}, which pay for {_of_floor(spec)}: unless few edits come so far as "
        "to be judged, the budget ends the search"
    )


def fewest_calls(spec: TeamTrainSpec, team: TeamSpec, splits: Splits) -> int:
    """Return the fewest calls that a whole run can make: no edit is proposed, and the start team is the answer.

    Passes of equal teams are paid once, and later steps may draw the first one's batch again.
    """
    profile, a_pass = profile_of(spec, spec.profile), planned_calls(team)[0]
    batch = 0 if profile.aim == "random" else min(profile.batch or len(splits.train), len(splits.train))
    one = 0 if single(team).hash == team.hash else planned_calls(single(team))[0]
    controls = set(spec.controls)
    an_item = a_pass + (one if controls & {"single", "best-of-n"} else 0)
    an_item += 2 * planned_calls(single(team))[0] if "best-of-n" in controls else 0
    return batch * a_pass + an_item * (len(splits.confirm) + len(splits.test))


def _growth(profiles: Sequence[TextualProfile], team: TeamSpec, most: int) -> list[str]:
    """Return that a team which grows asks for more, where an edit that a profile allows may let it grow."""
    if all(profile.edits and set(profile.edits) <= TEXTS for profile in profiles):
        return []
    limits = team.limits
    return [
        f"calls_at_most takes every team for as large as the start team ({most} calls an item); one that edits let "
        f"grow, to {limits.max_agents} agents at most, asks for more, and run.budget_calls bounds that"
    ]


def headroom_calls(team: TeamSpec, splits: Splits, prompts: int, *, most: bool = False) -> int:
    """Return the calls of so many plain prompts, and the plainest, on training items."""
    one = planned_calls(single(team))[most]
    return (prompts + 1) * min(MOST_HEADROOM, len(splits.train)) * one if prompts else 0


def search_calls(
    profile: TextualProfile, spec: TeamTrainSpec, team: TeamSpec, splits: Splits, *, most: bool = False
) -> int:
    """Return the calls of a search in which every fresh challenger goes to the last look.

    Args:
        profile: Of the search.
        spec: Of the run.
        team: That it begins with.
        splits: Of the items.
        most: Count also what may come beside: batches drawn again for want of a failure, replays with the output of
            another team, answers asked for again, merges, and edits that passed and are judged again.
    """
    a_pass, layers = planned_calls(team)[most], len(team.layers)
    validation = min(len(splits.validation), profile.validation or len(splits.validation)) * profile.repeats
    batch = len(splits.train) if profile.batch is None else min(profile.batch, len(splits.train))
    if profile.aim == "random":
        batch = 0
    proposals = {"whole": 1, "agent": 1, "agents": 1}.get(profile.aim, profile.proposals)
    repairs = proposals if profile.aim != "agents" else len(team.agents())
    critics = 0 if profile.aim == "random" else int(profile.whole) + layers * profile.reads_layers(layers)
    replays = batch * (2 * layers - 1 if most else layers) if profile.blame else 0
    judged, draws, answers, fresh = proposals, 1, 1, 0
    if most:
        judged += int(profile.merges > 0)
        judged += profile.proposals if judged > 1 else 0  # where there is but one, it is adopted or it did not pass
        draws = DRAWS if batch < len(splits.train) else 1
        answers, fresh = 2, judged * validation * profile.redraw_incumbent
    tried = batch * judged if profile.minibatch else 0
    asked = (critics + repairs * (1 + profile.reasks)) * answers
    step = asked + (batch * draws + replays + tried + judged * validation + fresh) * a_pass
    return spec.steps * step + validation * a_pass


def later_calls(spec: TeamTrainSpec, team: TeamSpec, splits: Splits, *, most: bool = False) -> int:
    """Return the calls of start, finals and controls on the confirm and test splits."""
    return _later_an_item(spec, team, most) * (len(splits.confirm) + len(splits.test))


def passes_of_a_search(spec: TeamTrainSpec, team: TeamSpec, held_out: int) -> float | None:
    """Return the start team's passes that each search may make; None where no budget of calls bounds them.

    Args:
        spec: Of the run.
        team: That it begins with.
        held_out: Items of the confirm and test splits, whose passes come after the searches.
    """
    if spec.run.budget_calls is None:
        return None
    left = max(0, spec.run.budget_calls - _later_an_item(spec, team) * held_out)
    return left / len(spec.searches) / planned_calls(team)[0]


def _later_an_item(spec: TeamTrainSpec, team: TeamSpec, most: bool = False) -> int:
    a_pass, one = planned_calls(team)[most], planned_calls(single(team))[most]
    samples = MOST_SAMPLES * one if most else min(MOST_SAMPLES, max(2, a_pass))
    teams: Mapping[str, int] = {
        "single": one, "best-of-n": samples, "static": planned_calls(static(team))[most],
        "oracle": sum(planned_calls(each)[most] for each in statics(team)),
    }  # fmt: skip
    an_item = a_pass * (1 + len(spec.searches)) + sum(teams.get(name, 0) for name in spec.controls)
    if "best-of-n" in spec.controls and "single" not in spec.controls:
        an_item += teams["single"]
    return an_item


def floor_of(spec: TeamTrainSpec, team: TeamSpec, splits: Splits) -> int:
    """Return the fewest calls with which something could be learned and confirmed."""
    profile, a_pass = profile_of(spec, spec.profile), planned_calls(team)[0]
    batch = profile.batch or len(splits.train)
    look = min(FLOOR_ITEMS, len(splits.validation))
    step = batch * a_pass + 1 + len(team.layers) + profile.proposals + profile.proposals * look * a_pass
    return look * a_pass + min(FLOOR_STEPS, spec.steps) * step + later_calls(spec, team, splits)


def reserved(spec: TeamTrainSpec, team: TeamSpec, splits: Splits) -> Limits:
    """Return the limits of the searches: what the passes after them need is kept back."""
    limits, later = spec.run.limits, later_calls(spec, team, splits)
    whole = sum(search_calls(profile_of(spec, name), spec, team, splits) for name in spec.searches) + later
    # What a call takes is not known yet: tokens may pay for no more than the floor, of which the later passes are most.
    least = min(LATER, later / floor_of(spec, team, splits))
    share = 1 - max(later / whole, least)
    return replace(
        limits,
        calls=None if limits.calls is None else max(0, limits.calls - later),
        tokens=None if limits.tokens is None else int(limits.tokens * share),
        usd=None if limits.usd is None else limits.usd * share,
        seconds=None if limits.seconds is None else limits.seconds * (1 - LATER),
    )
