"""Search over teams: phases in order, chunks and replay, blame, refusals, memory, failures, and that it learns."""

import json
from dataclasses import replace

import pytest
from plait.errors import SpecError
from plait.records import Failed, Scored
from plait.search.gate import MEAN
from plait.search.textual import TextualSearch
from plait.search.textual_momentum import EditMemory, Tried, tokens
from plait.search.textual_profiles import (
    GEPA,
    PAPER,
    PLAIT,
    RANDOM,
    TEXTGRAD,
    TEXTUAL_PROFILES,
    TextualProfile,
    textual_profile,
)  # fmt: skip
from plait.search.textual_records import Passes
from plait.search.textual_trials import Critique, Finding, Forward, Repair, parse
from plait.teams import TeamSpec
from textual_world import TRAIN, VALIDATION, Landscape, instructions, layers_of, play, proposed, scored, team


def search(profile: TextualProfile = PLAIT, steps: int = 1, start: TeamSpec | None = None, seed: int = 0, **rest):
    return TextualSearch(start or team("plan", "solve"), TRAIN, VALIDATION, profile, seed, steps, **rest)


def kinds(trials) -> list[tuple[str, int]]:
    """Return runs of trials of one kind, and how long each is."""
    runs: list[tuple[str, int]] = []
    for trial in trials:
        kind = type(trial.candidate).__name__
        count = runs.pop()[1] if runs and runs[-1][0] == kind else 0
        runs.append((kind, count + 1))
    return runs


def of(kind, trials):
    return [trial.candidate for trial in trials if isinstance(trial.candidate, kind)]


def half(item: str) -> bool:
    """Whether a team that is right on every other validation item, and wrong in training, is right on this one."""
    return item[0] == "v" and int(item[1:]) % 2 == 0


class Scripted:
    """Outcomes by rule: how often teams are right, what critiques and repairs say. Each can be replaced."""

    def __init__(self, right=lambda forward: half(forward.item), patch=None, critic=None):
        self.right, self.critic = right, critic
        self.patch = patch or (lambda it: instructions(self.agent(it), f"Think {it.index}."))

    def agent(self, repair: Repair) -> str:
        return f"{repair.finding.layer or 'solve'}-agent"

    def __call__(self, trial):
        if isinstance(trial, Forward):
            answer = self.right(trial)
            return answer if isinstance(answer, Failed | Scored) else scored(trial.team, float(answer))
        if isinstance(trial, Critique):
            if self.critic:
                return self.critic(trial)
            where = trial.scope or "solve"
            finding = {"layer": where, "agent": None, "kind": "prompt", "text": f"{trial.scope or 'team'} is vague"}
            return Scored({"findings": [finding], "text": f"{trial.scope or 'team'} at {trial.index}"})
        patch = self.patch(trial)
        return patch if isinstance(patch, Failed | Scored) else proposed(patch)


# -- trials


def test_trials_are_read_back_from_their_text():
    finding = Finding("solve", "solve-agent", "role", "too bold")
    repair = Repair(team(), finding, {"global": "g"}, ("a", "b"), "cycle at x", {"alpha": 0.7, "beta": 0.5}, 1, 9)
    reads = Repair(team(), Finding("solve"), shown=(("a", 0), ("b", 1)), edits=("set_instructions",))
    critique = Critique(team(), "", (("a", 0),), {"solve": {"n": 1}}, 3)
    for trial in (Forward(team(), "a", 1, "solve"), critique, repair, reads):
        assert parse(trial.key) == trial
        assert hash(parse(trial.key)) == hash(trial)
    with pytest.raises(SpecError, match="trial of a search over teams"):
        parse('{"kind":"guess"}')


def test_a_pass_without_a_donor_is_written_as_before_there_were_donors():
    plain, given = Forward(team(), "a", 1, "solve"), Forward(team(), "a", 1, "solve", team("plan", "solve"), 2)
    assert set(json.loads(plain.key)) == {"kind", "team", "item", "sample", "resample"}
    assert parse(given.key) == given != plain


# -- phases, chunks, replay


def test_the_phases_of_a_step_come_in_order():
    ours = search()
    trials = play(ours, Scripted())
    (step,) = ours.steps
    # 4 training passes; global critique and one a layer; a repair of each of 3 findings; 32 items of incumbent and 3
    # challengers; all tie, which is no lead: dropped at 100; the fourth repair aims at the first finding again
    first = [("Forward", 4), ("Critique", 3), ("Repair", 3), ("Forward", 4 * 100)]
    assert kinds(trials) == [*first, ("Repair", 1), ("Forward", 100)]
    assert {trial.item for trial in of(Forward, trials[:4])} <= set(TRAIN)
    gate = of(Forward, trials[10:])
    assert {trial.item for trial in gate[: 4 * 32]} == set(ours.items[:32])
    assert [edit.look for edit in step.edits] == [1] * 4
    assert [edit.verdict for edit in step.edits] == ["rejected"] * 4
    assert [repair.finding.layer for repair in of(Repair, trials)] == ["solve", "plan", "solve", "solve"]
    assert ours.done
    assert ours.stop == "steps"


def test_a_gate_never_goes_by_training_items():
    trials = play(search(), Scripted())
    first = min(at for at, trial in enumerate(trials) if isinstance(trial.candidate, Repair))
    assert all(trial.item in VALIDATION for trial in of(Forward, trials[first:]))


@pytest.mark.parametrize("name", TEXTUAL_PROFILES)
def test_how_many_are_asked_at_once_changes_nothing(name):
    def run(chunks):
        world, ours = Landscape(3), search(textual_profile(name), 3, team())
        return [trial.candidate for trial in play(ours, world.outcome, chunks)], ours.incumbent.hash

    whole, final = run((1000,))
    assert len(set(whole)) == len(whole)  # and nothing is asked twice
    for chunks in ((1,), (3, 7, 64)):
        assert run(chunks) == (whole, final)


def test_told_again_it_asks_the_same_and_ends_with_the_same_team():
    world, first = Landscape(1), search(PLAIT, 4, team())
    told = {trial.candidate: world.outcome(trial.candidate) for trial in play(first, world.outcome)}
    again = search(PLAIT, 4, team())
    play(again, told.__getitem__)  # a KeyError would be a trial that the first did not ask
    assert again.incumbent.hash == first.incumbent.hash != first.steps[0].incumbent
    assert again.steps == first.steps


def test_another_seed_is_another_run():
    trials = [play(search(seed=seed), Scripted()) for seed in (0, 1)]
    assert [one.candidate for one in trials[0]] != [one.candidate for one in trials[1]]


# -- the backward pass


def test_layers_without_blame_are_not_criticised():
    def right(trial):
        return trial.item.startswith("v") or trial.resample == "solve"  # a new draw of solve mends every failure

    start = team("plan", "solve", "say", temperature=0.7)
    ours = search(start=start)
    trials = play(ours, Scripted(right))
    replays = [trial for trial in of(Forward, trials) if trial.resample]
    assert len(replays) == 3 * 4  # every failure, with each layer drawn again
    assert ours.steps[0].blame == {"plan": 0.0, "solve": 1.0, "say": 0.0}
    assert [critique.scope for critique in of(Critique, trials)] == ["", "solve"]
    assert of(Critique, trials)[0].stats["solve"]["blame"] == 1.0


def test_a_layer_with_unparsed_outputs_is_criticised_all_the_same():
    def right(trial):
        if trial.item in VALIDATION:
            return True
        values = {"score": 0.0, "unparsed": 1, "layers": layers_of(trial.team)}
        values["layers"]["plan"]["unparsed"] = 1
        return Scored(values)

    trials = play(search(start=team("plan", "solve", temperature=0.7)), Scripted(right))
    assert [critique.scope for critique in of(Critique, trials)] == ["", "plan"]


def test_a_layer_that_is_not_sampled_is_not_drawn_again():
    trials = play(search(start=team("plan", "solve")), Scripted())
    assert not any(trial.resample for trial in of(Forward, trials))


def learned(right, start: TeamSpec, steps: int = 2):
    """Return a search over four training items, which are read in each step, and its trials.

    A better team is adopted in the first step; `right` answers for training items.
    """

    def judged(trial):
        if trial.item in TRAIN:
            return right(trial)
        return int(trial.item[1:]) % (2 if trial.team.hash == start.hash else 5) > 0

    profile = replace(PLAIT, parents="incumbent", merges=0.0)
    ours = TextualSearch(start, TRAIN[:4], VALIDATION, profile, steps=steps)
    trials = play(ours, Scripted(judged))
    assert ours.steps[0].adopted
    return ours, trials


def test_what_another_team_made_of_an_item_that_it_was_right_on_tells_whose_fault_a_failure_is():
    start = team("plan", "solve", "say")

    def right(trial):
        if trial.team.hash == start.hash:
            return trial.item in ("t0", "t1")
        return trial.donor is not None and (trial.item, trial.resample) == ("t0", "plan")

    ours, trials = learned(right, start)
    given = [trial for trial in of(Forward, trials) if trial.donor]
    # only where another team was right, and never the last layer, whose output would be the answer itself
    assert [(trial.resample, trial.item) for trial in given] == [
        ("plan", "t0"), ("plan", "t1"), ("solve", "t0"), ("solve", "t1")
    ]  # fmt: skip
    assert {(trial.team.hash, trial.donor.hash) for trial in given} == {(ours.steps[0].adopted, start.hash)}
    assert [step.blame for step in ours.steps] == [
        {"plan": None, "solve": None, "say": None}, {"plan": 0.5, "solve": 0.0, "say": None}
    ]  # fmt: skip
    assert [critique.scope for critique in of(Critique, trials) if critique.index == 1] == ["", "plan", "say"]


def test_a_failure_that_a_new_draw_and_another_team_turn_counts_once():
    start = team("plan", "solve", temperature=0.7)

    def right(trial):
        if trial.team.hash == start.hash:
            return trial.item in ("t0", "t1")
        turned = ("t0", "t1") if trial.donor else ("t0", "t3")
        return trial.resample == "plan" and trial.item in turned

    ours, _ = learned(right, start)
    assert ours.steps[1].blame == {"plan": 0.75, "solve": 0.0}


def test_a_donor_is_the_first_other_team_told_of_that_has_the_layer_and_was_right():
    ours, short, first, second = (team(*names) for names in (["plan", "say"], ["say"], ["plan", "x"], ["plan", "y"]))
    passes = Passes()
    outcomes = {
        Forward(ours, "a"): 1, Forward(short, "a"): 1, Forward(first, "a", 0, "plan"): 1, Forward(first, "b"): 1,
        Forward(first, "a"): 0, Forward(second, "a", 3): 1, Forward(first, "a", 1): 1,
    }  # fmt: skip
    program = passes.run(outcomes)
    assert next(program) == [*outcomes]
    with pytest.raises(StopIteration):
        program.send([scored(trial.team, float(score)) for trial, score in outcomes.items()])
    assert passes.donor(ours, "a", "plan") == Forward(second, "a", 3)
    assert passes.donor(ours, "a", "say") == Forward(short, "a")
    assert passes.donor(ours, "b", "say") is None


def test_half_of_a_batch_are_known_failures():
    fails = set(TRAIN[:50])
    ours = search(steps=8)
    trials = play(ours, Scripted(lambda trial: trial.item not in fails))
    batches = [step.batch for step in ours.steps]
    assert all(len(batch) == 4 for batch in batches)
    known: set[str] = set()
    for batch in batches:
        assert len(known & set(batch)) >= min(2, len(known))
        known |= fails & set(batch)
    assert of(Critique, trials)[0].shown[0][0] in fails  # failures are shown first


def test_a_start_without_failures_ends_by_patience():
    ours = search(steps=20)
    trials = play(ours, Scripted(lambda trial: True))
    assert (ours.stop, len(ours.steps)) == ("patience", 3)
    assert {step.note for step in ours.steps} == {"no failure in the training batches"}
    assert not of(Repair, trials)


# -- repairs


def test_a_refused_repair_is_asked_once_more_with_the_reason():
    def patch(repair):
        return instructions("nobody", "x") if repair.index == 1 else None if repair.index == 2 else good(repair)

    def good(repair):
        return instructions("solve-agent", f"Think {repair.index}.")

    ours = search()
    trials = play(ours, Scripted(patch=patch))
    again = [repair for repair in of(Repair, trials) if repair.attempt]
    assert [repair.index for repair in again] == [1, 2]
    assert again[0].refused.startswith("unknown-agent at ")
    assert again[1].refused.startswith("no-patch at ")
    assert ours.refusals == {"unknown-agent": 2, "no-patch": 2}
    assert [edit.verdict for edit in ours.steps[0].edits] == ["rejected", "refused", "refused", "rejected"]
    assert [edit.refusal for edit in ours.steps[0].edits] == ["", "unknown-agent", "no-patch", ""]


def test_equal_proposals_of_a_step_are_judged_once():
    ours = search()
    play(ours, Scripted(patch=lambda repair: instructions("solve-agent", "Think twice.")))
    assert ours.refusals == {"duplicate": 6}
    assert [edit.verdict for edit in ours.steps[0].edits] == ["rejected", "refused", "refused", "refused"]


def test_a_leak_is_refused():
    ours = search(leaks=lambda text: "Think 0" in text)
    play(ours, Scripted())
    assert ours.refusals == {"leak": 2}


def test_steps_without_a_valid_patch_end_the_search():
    ours = search(steps=20)
    play(ours, Scripted(patch=lambda repair: None))
    assert (ours.stop, len(ours.steps)) == ("patience", 3)


# -- adoption


def right_if(*words: str):
    """Return an answer that is right as often as the team's texts hold words: a half, then all."""

    def right(trial):
        found = sum(word in trial.team.key for word in words)
        return trial.item in VALIDATION and int(trial.item[1:]) % 10 < (0, 5, 10)[found]

    return right


def test_the_others_that_passed_are_judged_at_once_on_the_team_that_was_adopted():
    def patch(repair):
        if repair.index < 2:
            return instructions(("solve-agent", "plan-agent")[repair.index], ("alpha", "beta")[repair.index])
        return instructions("solve-agent", f"Think {repair.index}.")

    ours = search(replace(PLAIT, proposals=3, archive_share=0.0, merges=0.0))
    trials = play(ours, Scripted(right_if("alpha", "beta"), patch))
    (step,) = ours.steps
    assert [edit.verdict for edit in step.edits] == ["adopted", "passed", "rejected", "adopted"]
    again = step.edits[-1]
    assert (again.again, again.index, again.attempts) == (True, 1, 0)
    assert len(of(Repair, trials)) == 3  # no new repair for it
    assert step.adopted == again.child == ours.incumbent.hash
    assert "alpha" in ours.incumbent.key
    assert "beta" in ours.incumbent.key
    assert {member.team.hash for member in ours.archive.members} >= {ours.incumbent.hash}


def test_what_is_judged_again_does_not_undo_what_was_adopted():
    """Three edits of one agent pass: the second's words are added to the first's; a rewrite is a conflict."""
    texts = ("Think. Mind alpha.", "Think. Mind beta.", "A rewrite: beta, beta.")
    patch = lambda repair: instructions("solve-agent", texts[repair.index])  # noqa: E731
    ours = search(replace(PLAIT, proposals=3, archive_share=0.0, merges=0.0))
    play(ours, Scripted(right_if("alpha", "beta"), patch))
    assert [edit.verdict for edit in ours.steps[0].edits[:3]] == ["adopted", "passed", "passed"]
    added, rewritten = ours.steps[0].edits[3:]
    assert (added.again, added.verdict) == (True, "adopted")
    assert (rewritten.again, rewritten.refusal) == (True, "conflict")
    assert ours.incumbent.agents()[1].instructions == "Think. Mind alpha. Mind beta."


def test_what_a_round_did_not_mend_is_aimed_at_again_on_what_was_adopted():
    def patch(repair):
        text = "alpha" if repair.index == 1 else "beta" if repair.index == 4 else f"Think {repair.index}."
        return instructions(f"{repair.finding.layer}-agent", text)

    ours = search(replace(PLAIT, proposals=5, archive_share=0.0, merges=0.0))
    repairs = of(Repair, play(ours, Scripted(right_if("alpha", "beta"), patch)))
    assert [repair.finding.text for repair in repairs] == [
        "team is vague", "plan is vague", "solve is vague", "team is vague", "solve is vague",
    ]  # fmt: skip
    first, later = repairs[:3], repairs[3:]
    assert not any(repair.memory for repair in first)
    assert all("Think" in line for repair in later for line in repair.memory)  # those that it was not mended by
    assert {repair.team.hash for repair in later} == {ours.steps[0].edits[1].child}
    assert ours.steps[0].adopted == ours.incumbent.hash != later[0].team.hash


def test_a_team_that_is_always_right_ends_the_search():
    ours = search(steps=9)
    right = lambda trial: trial.item in VALIDATION and "alpha" in trial.team.key  # noqa: E731
    play(ours, Scripted(right, lambda repair: instructions("solve-agent", f"alpha {repair.index}")))
    # adopted at the first look, after 32 items: as perfect it counts from 100 on
    assert ours.stop == "perfect"
    assert ours.steps[0].adopted


@pytest.mark.parametrize("redraw", [False, True])
def test_an_adopted_team_is_drawn_again_where_that_is_asked_for(redraw):
    def patch(repair):
        return instructions("solve-agent", f"{'alpha' if repair.index == 0 else 'other'} {repair.index}")

    ours = search(replace(PLAIT, redraw_incumbent=redraw, archive_share=0.0), steps=2)
    trials = play(ours, Scripted(right_if("alpha"), patch))
    adopted = ours.steps[0].adopted
    samples = {trial.sample for trial in of(Forward, trials) if trial.team.hash == adopted and trial.item in VALIDATION}
    assert samples == ({0, 1} if redraw else {0})


# -- failures


def test_a_failed_pass_is_no_wrong_answer():
    """A challenger whose every fifth pass fails is dropped as undecidable; with fewer gaps it is decided."""
    for every, verdict in ((5, "undecidable"), (50, "rejected")):

        def right(trial, every=every):
            if trial.item in VALIDATION and "Think 0" in trial.team.key and int(trial.item[1:]) % every == 0:
                return Failed("Timeout")
            return trial.item in VALIDATION

        ours = search()
        play(ours, Scripted(right))
        edit = ours.steps[0].edits[0]
        assert edit.verdict == verdict
        assert edit.missing
        assert edit.losses == 0
        assert ours.verdicts.get("undecidable", 0) == (verdict == "undecidable")
        assert ours.failures["forward"] > 0


@pytest.mark.parametrize("name", TEXTUAL_PROFILES)
def test_it_outlives_any_failure(name):
    for gone in (Forward, Critique, Repair, (Forward, Critique, Repair)):
        ours, whole = search(textual_profile(name), 6), Scripted()
        trials = play(ours, lambda it, gone=gone, whole=whole: Failed("Gone") if isinstance(it, gone) else whole(it))
        assert ours.done
        asked = {kind.__name__: len(of(kind, trials)) for kind in (Forward, Critique, Repair)}
        lost = {kind: count for kind, count in ours.failures.items() if count}
        kinds_gone = gone if isinstance(gone, tuple) else (gone,)
        assert lost == {kind.__name__.lower(): n for kind in kinds_gone if (n := asked[kind.__name__])}
        assert not any(edit.verdict == "adopted" for step in ours.steps for edit in step.edits if Forward in kinds_gone)


def test_items_on_both_sides_are_refused():
    with pytest.raises(SpecError, match="none that are training items too"):
        TextualSearch(team(), TRAIN, [*VALIDATION, TRAIN[0]])
    with pytest.raises(SpecError, match="9 or more"):
        TextualSearch(team(), TRAIN, VALIDATION[:8])


# -- memory


def test_plait_shows_what_became_of_the_edits_before():
    def patch(repair):
        return None if repair.index == 0 else instructions("solve-agent", f"Think {repair.index}.")

    ours = search(replace(PLAIT, archive_share=0.0), steps=2)
    trials = play(ours, Scripted(patch=patch))
    first, later = of(Repair, trials)[0], of(Repair, trials)[-4]
    assert first.memory == ()
    assert later.memory
    assert any("refused: no-patch" in line for line in later.memory)
    assert any("rejected +0 of 100" in line for line in later.memory)


def test_without_memory_repair_is_told_less():
    def repairs(profile):
        return of(Repair, play(search(profile, 2), Scripted()))

    told, untold = repairs(PLAIT), repairs(replace(PLAIT, memory=False))
    assert told[:3] == untold[:3]  # there is nothing to remember yet
    assert told[3:] != untold[3:]
    assert any(repair.memory for repair in told)
    assert not any(repair.memory for repair in untold)


def test_memory_is_bounded_however_long_a_run_is():
    memory = EditMemory()
    for at in range(100):
        memory.note(
            "solve", Tried("it never says the unit " * 30, f"instructions: {'mind ' * 90}", f"kept +{at} of 100")
        )
        assert 1 <= len(memory.lines("solve")) <= 6
        assert sum(tokens(line) for line in memory.lines("solve")) <= 400
    assert "kept +99 of 100" in memory.lines("solve")[-1]
    assert memory.lines("plan") == ()


def test_the_paper_shows_the_previous_critique_with_weights_also_after_a_refusal():
    ours = search(PAPER, steps=2)
    trials = play(ours, Scripted(lambda trial: trial.item in VALIDATION, lambda repair: None))
    first, second = of(Repair, trials)
    assert first.weights == second.weights == {"alpha": 0.7, "beta": 0.5}
    assert "previous" not in first.critiques
    assert (
        second.critiques["previous"] == first.critiques["local"] == "Layer plan:\nplan at 0\n\nLayer solve:\nsolve at 0"
    )
    assert second.critiques["global"] == "team at 1"
    assert second.refused.startswith("no-patch at ")
    unmixed = of(Repair, play(search(replace(PAPER, memory=False), 2), Scripted(patch=lambda repair: None)))
    assert "previous" not in unmixed[1].critiques


# -- the other profiles


def test_the_paper_reads_the_whole_batch_repairs_once_and_stops_at_its_target():
    ours = search(PAPER, steps=1)
    trials = play(ours, Scripted())
    assert kinds(trials) == [("Forward", 200), ("Critique", 3), ("Repair", 1), ("Forward", 200)]
    assert ours.steps[0].edits[0].verdict == "rejected"  # all tie
    done = search(PAPER, steps=9)
    play(done, Scripted(lambda trial: True))
    assert (done.stop, done.steps[0].score, len(done.steps)) == ("target", 1.0, 1)


def test_textgrad_rewrites_every_agent_at_once_and_keeps_ties():
    ours = search(TEXTGRAD, steps=1)
    trials = play(ours, Scripted())
    assert kinds(trials) == [("Forward", 3), ("Critique", 2), ("Repair", 2), ("Forward", 200)]
    assert [critique.scope for critique in of(Critique, trials)] == ["plan", "solve"]
    (edit,) = ours.steps[0].edits
    assert (edit.verdict, len(edit.edits)) == ("adopted", 2)
    assert {agent.instructions for agent in ours.incumbent.agents()} == {"Think 0.", "Think 1."}
    worse = search(TEXTGRAD, steps=1)
    play(worse, Scripted(lambda trial: trial.item in VALIDATION and ("Think." in trial.team.key or trial.item != "v7")))
    assert worse.steps[0].edits[0].verdict == ("rejected" if "v7" in worse.items else "adopted")


def test_textgrad_refuses_other_edits():
    role = {"edits": [{"op": "set_role", "agent": "solve-agent", "text": "bold"}], "rationale": ""}
    ours = search(TEXTGRAD, steps=1)
    play(ours, Scripted(patch=lambda repair: role))
    assert ours.refusals == {"edit-not-allowed": 2}


def test_a_search_cut_anywhere_has_the_team_of_its_last_whole_step():
    """A step may adopt more than one edit: what it had adopted when it was cut is not handed back."""
    adopted = 0
    for seed in range(2):
        world, whole = Landscape(seed), search(PLAIT, 3, team())
        trials = play(whole, world.outcome)
        after: dict[int, str] = {}
        cut = search(PLAIT, 3, team())
        play_all = iter(trials)
        while not cut.done:
            for asked in cut.ask(64):
                cut.tell(asked, world.outcome(next(play_all).candidate))
                steps = len(cut.steps) - (not cut.done)
                assert cut.settled.hash == after.setdefault(steps, cut.settled.hash)
                adopted += cut.incumbent.hash != cut.settled.hash
        for steps, settled in after.items():
            limited = search(PLAIT, max(0, steps), team())
            play(limited, world.outcome)
            assert limited.incumbent.hash == settled
    assert adopted, "no cut fell between an adoption and the end of its step"


def test_random_edits_are_of_kinds_that_an_open_edit_mends():
    ours = search(replace(RANDOM, edits=("set_instructions",)), 4)
    asked = of(Repair, play(ours, Scripted()))
    assert {repair.finding.kind for repair in asked} == {"prompt", "role"}
    assert len({repair.finding.kind for repair in of(Repair, play(search(RANDOM, 8), Scripted()))}) > 3


def test_where_prompts_alone_are_open_repairs_are_told_so_and_other_edits_are_refused():
    prompts = replace(PLAIT, edits=("set_instructions",))
    ours = search(prompts, steps=1)
    trials = play(ours, Scripted(patch=lambda it: {"edits": [{"op": "set_role", "agent": "plan-agent", "text": "x"}]}))
    asked = of(Repair, trials)
    assert asked
    assert {repair.edits for repair in asked} == {("set_instructions",)}
    assert parse(asked[0].key).edits == ("set_instructions",)
    assert {edit.verdict for edit in ours.steps[0].edits} == {"refused"}
    assert any("expected set_instructions" in edit.why for edit in ours.steps[0].edits)
    open_ones = search(prompts, steps=1)  # its findings name no agent, so any agent's prompt may be changed
    play(open_ones, Scripted())
    assert "refused" not in {edit.verdict for edit in open_ones.steps[0].edits}
    assert all(repair.edits == () for repair in of(Repair, play(search(steps=1), Scripted())))


def test_gepa_validates_only_what_beats_its_parent_on_the_minibatch():
    ours = search(GEPA, steps=2)
    trials = play(ours, Scripted())
    assert kinds(trials)[0] == ("Forward", 100 + 3)  # the start's validation, then the first minibatch
    assert kinds(trials)[1:3] == [
        ("Repair", 1),
        ("Forward", 3 + 3),
    ]  # what it reads is the batch: nothing else is asked
    assert [edit.verdict for step in ours.steps for edit in step.edits] == ["rejected"] * 2
    assert [repair.finding.agent for repair in of(Repair, trials)] == ["plan-agent", "solve-agent"]  # in turn
    for step, repair in zip(ours.steps, of(Repair, trials), strict=True):
        assert repair.shown == tuple((item, 0) for item in step.batch)
        assert {item for item, _ in repair.shown} <= set(TRAIN)
        assert repair.edits == ("set_instructions",)

    better = search(GEPA, steps=1)
    right = lambda trial: trial.item in TRAIN if "Think 0" in trial.team.key else half(trial.item)  # noqa: E731
    play(better, Scripted(right))
    assert [edit.verdict for edit in better.steps[0].edits] == ["pooled"]  # better in training, worse in validation
    assert better.incumbent.hash == better.steps[0].parent


def test_random_edits_see_nothing_and_pass_the_same_gate():
    ours = search(RANDOM, steps=2)
    trials = play(ours, Scripted())
    assert [kind for kind, _ in kinds(trials)] == ["Repair", "Forward", "Repair", "Forward"]
    assert {trial.item for trial in of(Forward, trials)} <= set(VALIDATION)
    repairs = of(Repair, trials)
    assert {repair.finding.text for repair in repairs} == {""}
    assert len({(repair.finding.layer, repair.finding.kind) for repair in repairs}) > 2
    assert not any(repair.critiques or repair.memory for repair in repairs)


def test_repeats_are_averaged_and_are_no_items():
    ours = search(replace(PLAIT, gate=MEAN, validation=30, repeats=2))
    play(ours, Scripted(lambda trial: trial.item in VALIDATION and trial.sample == 0))
    assert {edit.ties for edit in ours.steps[0].edits} == {30}


# -- learning


def test_it_learns_where_the_critic_is_right_half_of_the_time_and_random_edits_do_not():
    """Sixty proposals; what is reachable is all five useful phrases and no harmful one."""
    gains = {"plait": [], "random": []}
    for seed in range(2):
        for profile in (PLAIT, RANDOM):
            world = Landscape(seed, q=0.5)
            ours = search(profile, 15, team(), seed)
            play(ours, world.outcome)
            gains[profile.name].append(world.gain(ours.incumbent))
    assert all(gain > 0.89 for gain in gains["plait"])
    assert all(gain < 0.51 for gain in gains["random"])
