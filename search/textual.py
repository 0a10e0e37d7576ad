"""Search over teams of agents by critiques, repairs and a gate, behind ask/tell. Pure; knows items by their ids alone.

Phases of a step, each asked whole before the next: training passes -> replays for blame -> critiques -> rounds of
repairs, one a finding -> refused repairs again -> the gate's looks at all challengers that are left, of which the best
is adopted -> looks at the others that passed, each on the team adopted before it. A round aims at what the one before
did not mend, until the step has had its proposals. Which phases there are is the profile's. State is the told
outcomes and nothing else, so that resuming is asking and telling again; how many trials are asked at once changes
nothing.

Source: ANN, arXiv 2506.09046; specs/ann, sections 2.3 and 9.4 to 9.8.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import SpecError
from ..records import Outcome, Trial, generator
from ..teams import TeamSpec
from .textual_aim import of_agents, random_finding, sections, spread
from .textual_archive import Archive, Member
from .textual_backward import Batch, Critiques, Training, blame, criticise
from .textual_judging import Challenger, Judge
from .textual_momentum import Momentum, Tried
from .textual_profiles import PLAIT, TextualProfile
from .textual_records import EditRecord, Passes, Program, StepRecord
from .textual_repairs import Repairs
from .textual_trials import Finding, Repair, TextualTrial

DRAWS = 4
"""Batches drawn in a step until one has a failure to learn from."""
PERFECT = 100
"""Validation items, at the least, that must all be right for a search to end as perfect."""


class TextualSearch:
    """Search over teams from `start` on.

    Attributes:
        incumbent: The best team so far by the gate; a validation score is never a result.
        archive: Teams to change or merge beside it.
        steps: What was done, step by step; the last one may be under way.
        passes: All forward passes told of.
        stop: Why it ended: `steps`, `patience`, `perfect` or `target`; "" while it goes on.
        items: The validation items that may be used, in the order the gate takes them.
    """

    def __init__(
        self,
        start: TeamSpec,
        train: Sequence[str],
        validation: Sequence[str],
        profile: TextualProfile = PLAIT,
        seed: int = 0,
        steps: int | None = None,
        leaks: Callable[[str], bool] | None = None,
        models: Sequence[str] = (),
    ) -> None:
        """Prepare a search; its first trials are there to be asked.

        Args:
            start: The first incumbent.
            train: Ids of items that critiques may read.
            validation: Ids of items that the gate goes by; their order is drawn once.
            profile: How to go about it.
            seed: Every draw is a function of (seed, purpose, step).
            steps: Steps at most; None for the profile's.
            leaks: Whether a text holds part of a question that teams are judged by.
            models: Names of chat models that an edit may bring in.

        Raises:
            SpecError: items repeat, are on both sides, or are too few.
        """
        _check(train, validation, profile)
        self.profile, self.seed = profile, seed
        self.incumbent = self.settled = start
        self.archive, self.passes = Archive(), Passes()
        self.steps: list[StepRecord] = []
        self.stop = ""
        order = generator(seed, "textual-validation").sample(list(validation), len(validation))
        self.items = tuple(order[: profile.validation])
        self._limit = profile.steps if steps is None else steps
        self._training = Training(tuple(train))
        self._momentum = Momentum(profile.momentum if profile.memory else "none")
        self._repairs = Repairs(profile, {start.hash}, leaks, models)
        self._adoptions = self._idle = self._failed_critiques = 0
        self._refused = ""
        self._asked = self._told = self._handed = 0
        self._phase: list[TextualTrial] = []
        self._outcomes: list[Outcome] = []
        self._running = self._program()
        self._advance(None)

    # -- ask and tell

    @property
    def done(self) -> bool:
        """Whether the search has stopped; `stop` says why."""
        return bool(self.stop)

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` trials of the phase at hand; `[]` while its outcomes are awaited."""
        taken = self._phase[self._handed : self._handed + n]
        trials = [Trial(self._asked + at, candidate) for at, candidate in enumerate(taken)]
        self._handed += len(taken)
        self._asked += len(taken)
        return trials

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take an outcome; a phase's last one opens the next phase."""
        assert trial.index == self._told < self._asked, "told what was not asked, or out of order"
        self._told += 1
        self._outcomes.append(outcome)
        if len(self._outcomes) == len(self._phase):
            self._advance(self._outcomes)

    def _advance(self, outcomes: list[Outcome] | None) -> None:
        self._outcomes, self._handed, self._phase = [], 0, []
        try:
            # A fresh generator takes no outcomes; it is this search's program, no source of randomness.
            self._phase = next(self._running) if outcomes is None else self._running.send(outcomes)
        except StopIteration:
            assert self.stop, "the program ended without a reason"

    # -- what there is to report

    @property
    def refusals(self) -> dict[str, int]:
        """Refused patches by code, attempts that were asked again among them."""
        return dict(self._repairs.refusals)

    @property
    def failures(self) -> dict[str, int]:
        """Trials that gave no answer, by kind."""
        return {
            "forward": self.passes.failed,
            "critique": self._failed_critiques,
            "repair": self._repairs.failed,
        }

    @property
    def verdicts(self) -> dict[str, int]:
        """Edits of all steps by what became of them."""
        return dict(Counter(edit.verdict for step in self.steps for edit in step.edits))

    # -- the program

    def _program(self) -> Program[None]:
        if self.profile.parents == "front" and self._limit != 0:  # parents are drawn by scores: the start needs some
            yield from self._judge().run([self.incumbent], self.items)
            self._offer(self.incumbent)
        while not self._ended():
            yield from self._step()
            self.settled = self.incumbent  # what a search comes to that is cut short: a step may adopt more than once

    def _ended(self) -> bool:
        if self.stop:
            return True
        if self._limit is not None and len(self.steps) >= self._limit:
            self.stop = "steps"
        elif self._perfect():
            self.stop = "perfect"
        elif self._idle >= self.profile.patience:
            self.stop = "patience"
        return bool(self.stop)

    def _step(self) -> Program[None]:
        number = len(self.steps)
        parent = self._parent(number)
        step = StepRecord(number, parent.hash, self.incumbent.hash)
        self.steps.append(step)
        batch = yield from self._train(parent, step)
        if self.stop:
            return
        repairs = yield from self._wanted(batch, step)
        fresh = yield from self._repair(step, repairs)
        valid = any(one.record.child for one in fresh)
        yield from self._settle(step, batch, fresh + self._merged(number))
        while repairs := self._missed(step, repairs, fresh):
            fresh = yield from self._repair(step, repairs)
            valid |= any(one.record.child for one in fresh)
            yield from self._settle(step, batch, fresh)
        self._idle = 0 if valid else self._idle + 1

    def _parent(self, number: int) -> TeamSpec:
        rng = generator(self.seed, "textual-parent", number)
        if self.profile.parents == "front":
            return self.archive.front(rng, self.incumbent)
        if self.profile.parents == "archive" and rng.random() < self.profile.archive_share:
            return self.archive.pick(rng, self.incumbent)
        return self.incumbent

    def _train(self, parent: TeamSpec, step: StepRecord) -> Program[Batch]:
        """Run a batch with something to learn from, if one is drawn in time; end the search at its target."""
        batch = Batch(parent, (), self._samples()[0])
        for draw in range(DRAWS if self.profile.batch != 0 else 0):
            rng = generator(self.seed, "textual-batch", step.step, draw)
            batch = Batch(parent, self._training.draw(self.profile, rng), batch.sample)
            yield from self._training.run(self.passes, batch)
            if batch.failing or len(batch.items) == len(self._training.items):
                break
        step.batch, step.score = batch.items, batch.score
        if self.profile.target is not None and batch.score is not None and batch.score >= self.profile.target:
            self.stop, step.note = "target", "the training batch is at the target"
        return batch

    def _wanted(self, batch: Batch, step: StepRecord) -> Program[list[Repair]]:
        """Criticise; return the repairs that a step begins with."""
        if self.profile.aim == "random":
            rng = generator(self.seed, "textual-random", step.step)
            aims = [random_finding(batch.team, rng, self.profile.edits) for _ in range(self.profile.proposals)]
            return [Repair(batch.team, aim, edits=self.profile.edits) for aim in aims]
        if not batch.failing:
            step.note = "no failure in the training batches" if batch.passes else "no training pass has a score"
            return []
        if self.profile.blame:
            step.blame = yield from blame(self.passes, batch)
        agent = self._turn(batch.team, step.step)
        if not self.profile.whole and not self.profile.local:  # one call a step: the repair reads the passes itself
            return [Repair(batch.team, agent, shown=batch.shown, edits=self.profile.edits)]
        said = yield from criticise(self.profile, batch, step.blame, step.step, agent.layer)
        step.criticised = said.asked
        self._failed_critiques += said.failed
        repairs = self._aimed(batch.team, said, agent)
        self._momentum.replace(said.local)
        if not repairs:
            step.note = "the critiques found nothing"
        return repairs

    def _missed(self, step: StepRecord, repairs: list[Repair], fresh: list[Challenger]) -> list[Repair]:
        """Return repairs of what this round's were aimed at and did not mend, as far as the step has proposals left.

        Two at one finding at once would often be the same edit in other words, judged twice. What the step has
        adopted is what they change, and they are told what became of those before.
        """
        left = self.profile.proposals - sum(edit.index >= 0 and not edit.again for edit in step.edits)
        if self.profile.aim != "findings" or left <= 0:
            return []
        pairs = zip(repairs, fresh, strict=True)
        missed = [repair for repair, one in pairs if one.record.verdict in {"rejected", "refused", "failed"}]
        return [
            replace(
                one,
                team=self.incumbent if step.adopted else one.team,
                memory=self._momentum.lines(one.finding.layer),
            )
            for one in missed[:left]
        ]

    def _turn(self, team: TeamSpec, step: int) -> Finding:
        """Return the agent whose turn it is, where one a step is changed (GEPA); no place otherwise."""
        if self.profile.aim != "agent":
            return Finding("")
        places = list(team.places())
        layer, _, agent = places[step % len(places)]
        return Finding(layer.name, agent.name)

    def _aimed(self, team: TeamSpec, said: Critiques, turn: Finding) -> list[Repair]:
        """Return the repairs that the profile makes of a step's critiques."""
        profile = self.profile
        if profile.aim == "findings":
            return [self._with_context(team, aim, said) for aim in spread(said.findings, profile.proposals)]
        if profile.aim == "whole":
            return [self._whole(team, said)] if said.findings else []
        aims = of_agents(team, said.findings, said.local)
        if profile.aim == "agent":
            aims = [aim for aim in aims if aim.agent == turn.agent]
        return [self._with_context(team, aim, said) for aim in aims]

    def _with_context(self, team: TeamSpec, aim: Finding, said: Critiques) -> Repair:
        """Return a repair with what there is to know about the layer it is aimed at."""
        texts = {
            "global": said.overall,
            "local": said.local.get(aim.layer, ""),
            "previous": self._momentum.previous(aim.layer),
        }
        critiques = {name: text for name, text in texts.items() if text}
        profile, memory = self.profile, self._momentum.lines(aim.layer)
        return Repair(team, aim, critiques, memory, weights=profile.weights, edits=profile.edits)

    def _whole(self, team: TeamSpec, said: Critiques) -> Repair:
        """Return the one repair that reads every critique (section 2.3), and why the last epoch's patch was none."""
        previous = {layer.name: self._momentum.previous(layer.name) for layer in team.layers}
        texts = {"global": said.overall, "local": sections(said.local), "previous": sections(previous)}
        aim = Finding("", None, said.findings[0].kind, said.overall or said.findings[0].text)
        critiques = {name: text for name, text in texts.items() if text}
        refused, profile = self._refused, self.profile
        return Repair(team, aim, critiques, refused=refused, weights=profile.weights, edits=profile.edits)

    def _repair(self, step: StepRecord, repairs: list[Repair]) -> Program[list[Challenger]]:
        """Ask for repairs; return the challengers, those refused among them."""
        numbered = self._repairs.number(repairs)
        work = self._repairs.together if self.profile.aim == "agents" else self._repairs.run
        return (yield from work(step.step, numbered))

    def _merged(self, number: int) -> list[Challenger]:
        """Return a merge of two teams of the archive, now and then."""
        rng = generator(self.seed, "textual-merge", number)
        if rng.random() >= self.profile.merges:
            return []
        team = self.archive.merge(rng)
        if team is None or team.hash in self._repairs.judged:
            return []
        self._repairs.judged.add(team.hash)
        record = EditRecord(number, -1, Finding(""), edits=("merge of two teams of the archive",), child=team.hash)
        return [Challenger(team, record, self.incumbent)]

    # -- judging

    def _samples(self) -> tuple[int, ...]:
        """Return the draws that teams are compared by now."""
        first = self._adoptions * self.profile.repeats if self.profile.redraw_incumbent else 0
        return tuple(range(first, first + self.profile.repeats))

    def _judge(self) -> Judge:
        return Judge(self.passes, self.profile.gate, self.items, self._samples(), self.profile.ties)

    def _settle(self, step: StepRecord, batch: Batch, challengers: list[Challenger]) -> Program[None]:
        """Judge a round's challengers, adopt the best, then judge each other that passed on the team adopted by then.

        So no critique is spent on what an edit that has passed already mends, and every adopted team has passed
        against the one that it replaces.
        """
        step.edits += [one.record for one in challengers]
        if self.profile.minibatch:
            running = [one for one in challengers if one.record.verdict == "open"]
            yield from self._judge().minibatch(batch.team, running, batch.items)
        yield from self._judge().look(self.incumbent, challengers)
        passed = self._admit(challengers, step)
        self._remember(challengers)
        for old in passed:
            again = self._repairs.again(step.step, self.incumbent, [old])
            step.edits += [one.record for one in again]
            yield from self._judge().look(self.incumbent, again)
            self._admit(again, step)
            self._remember(again)

    def _admit(self, challengers: list[Challenger], step: StepRecord) -> list[Challenger]:
        """Adopt the challenger with the largest lead, put those that did well beside it; return the others that passed.

        Those come by their lead, the largest first; a merge of teams is no edit and not among them.
        """
        self._offer(self.incumbent)
        for one in challengers:
            pooled = self.profile.admits == "all" and one.record.look >= 0 and one.record.verdict == "rejected"
            if one.rested or pooled:
                self._offer(one.team)
            if pooled:
                one.record.verdict = "pooled"
        passed = [one for one in challengers if one.passed]
        if not passed:
            return []
        best = max(passed, key=lambda one: (one.record.lead, -one.record.p))
        best.record.verdict = "adopted"
        self.incumbent, step.adopted = best.team, best.team.hash
        self._adoptions += 1
        others = [one for one in passed if one is not best and one.record.patch is not None]
        return sorted(others, key=lambda one: (-one.record.lead, one.record.p))

    def _offer(self, team: TeamSpec) -> None:
        scored = self.passes.scored(team, self.items, self._samples())
        if scored:
            self.archive.offer(Member.of(team, scored))

    def _perfect(self) -> bool:
        scored = self.passes.scored(self.incumbent, self.items, self._samples())
        return len(scored) >= PERFECT and all(one.score >= 1 for drawn in scored.values() for one in drawn)

    def _remember(self, challengers: list[Challenger]) -> None:
        """Write edits into memory, and the last refusal for an epoch that does not ask again."""
        self._refused = ""
        for edit in (one.record for one in challengers):
            line = "; ".join(edit.edits) or "no valid patch"
            if edit.verdict == "refused" and edit.refusal == "leak":
                line = "an edit that gives a question away"  # its words are not to come back to the optimiser
            if edit.index >= 0:
                self._momentum.note(edit.finding.layer, Tried(edit.finding.text, line, edit.remembered()))
            if edit.verdict == "refused":
                self._refused = edit.why


def _check(train: Sequence[str], validation: Sequence[str], profile: TextualProfile) -> None:
    """Refuse items that cannot be searched with."""
    for name, items in (("training", train), ("validation", validation)):
        if len(set(items)) < len(items):
            raise SpecError(
                f"{name} items", sorted(one for one, n in Counter(items).items() if n > 1)[:3], "no repeats"
            )
    both = sorted(set(train) & set(validation))
    if both:
        raise SpecError("validation items", both[:3], "none that are training items too")
    if not train and profile.batch != 0:
        raise SpecError("training items", 0, "1 or more")
    if len(validation) < profile.gate.least:
        raise SpecError("validation items", len(validation), f"{profile.gate.least} or more")
