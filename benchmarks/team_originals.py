"""GEPA and TextGrad themselves beside our searches, on one scripted server at equal calls: what the teams truly score.

    pip install -e '.[originals]'         # gepa and textgrad; without one of them the script says so and goes on
    python benchmarks/team_originals.py [--seeds 10]

One agent of the scripted world of tests/scripted_team.py starts at .40; .90 is the best that its instructions reach.
Everybody has the same training and validation items, the same agent (equal prompts answer alike) and the same critic,
which names the missing phrase half of the time. The originals run through their own public interfaces: GEPA by an
adapter and a reflection model, its reflection prompt read by the critic; TextGrad by a system prompt variable, string
losses, its backward pass and optimiser, and the validation with revert of its released script (ties kept).

Budgets: agent's calls (each prompt and item is paid once, whoever asks again, on all sides) and the critic's calls of
any kind; GEPA makes one of those a step, and so does our profile of it; `plait` makes one for a critique and one for
each repair. Ours stops in the middle of a step where a budget ends; the originals finish the step that they are in.
Servers: `one` mends one finding a text, as the tests' does; `all` mends up to three that it is shown; in `structure` a
checker helps too, which texts cannot add.

True accuracy is computed, not sampled. `claim` is the mean of the validation items that the chosen team was run on.
Rows name the validation items (300 or 100): few of them are the cheaper setting. Last line: JSON; `ratio` is the median
true gain of profile `plait` on 300 over that of the better of the original GEPA's settings, on server `one` at the
middle budget (at the largest both reach what there is to reach): below 1 where GEPA itself gains more. `wins` counts
seeds, ours and theirs; `ratios` has all servers and budgets.
"""

import argparse
import json
import os
import re
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from plait.agents.teams.items import TaskItem
from plait.records import Outcome, Scored, digest, generator
from plait.search.textual import TextualSearch
from plait.search.textual_profiles import textual_profile
from plait.search.textual_trials import Forward, Repair, TextualTrial
from plait.team_edits import Patch, Refusal, apply
from plait.teams import Block, TeamSpec
from plait.tests.scripted_team import UNCHECKED, World, one_layer, world
from plait.tests.scripted_team_critic import Aim, critique, lacking, read_patch, repair
from plait.tests.scripted_team_play import Player, play
from plait.tests.scripted_team_reading import said

TRAIN, VALIDATION = 100, 300
BUDGETS = ((1000, 25), (3000, 50), (6000, 100))
"""Calls of the agent and of the critic, at most."""
SERVERS = {"one": (1, False), "all": (3, False), "structure": (1, True)}
"""Findings that a text mends, and whether a checker helps."""


@dataclass(frozen=True)
class Result:
    """What a search came to.

    Attributes:
        accuracy: The chosen team's, over all questions there are.
        claim: Its validation mean.
        items: Passes paid for.
        calls: Of agents, paid for.
        reflections: Calls of the critic.
    """

    accuracy: float
    claim: float
    items: int
    calls: int
    reflections: int


@dataclass
class Server:
    """The scripted agent and critic, with what was asked of them."""

    world: World
    mends: int
    budget: tuple[int, int]
    items: list[TaskItem] = field(init=False)
    paid: set[tuple[str, str]] = field(default_factory=set, init=False)
    calls: int = field(default=0, init=False)
    reflections: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.items = self.world.items(TRAIN + VALIDATION)
        self.quests = {item.id: quest for item, quest in zip(self.items, self.world.quests(self.items), strict=True)}

    @property
    def full(self) -> bool:
        """Whether a budget is spent."""
        return self.calls >= self.budget[0] or self.reflections >= self.budget[1]

    def pay(self, who: str, item: str, calls: int = 1) -> None:
        """Count a pass of `who` on an item, the first time."""
        if (who, item) not in self.paid:
            self.paid.add((who, item))
            self.calls += calls

    def team(self, instructions: str) -> TeamSpec:
        """Return the start with other instructions."""
        agent = self.world.solver().model_copy(update={"instructions": instructions})
        return one_layer(Block(name="one", agents=(agent,)))

    def answer(self, instructions: str, item: TaskItem) -> tuple[float, str]:
        """Return the agent's score and its words, which say what a wrong answer lacks."""
        self.pay(instructions, item.id)
        quest = self.quests[item.id]
        last = play(self.world, self.team(instructions), quest).final
        phrases = sorted(last.phrases)
        return float(last.right), said(self.world, last.right, quest.gold, quest.wrong, phrases, last.lacks)

    def revise(self, instructions: str, lacks: Sequence[int], key: str) -> str:
        """Return better instructions, as far as the critic knows what is lacking; texts are all that it may change."""
        texts_only = replace(self.world, structure=False)
        rows = [("solve", "solver", at) for at in lacks if at != UNCHECKED]
        aim = Aim("solve", "solver", "prompt", str(critique(self.world, rows)["text"]))
        patch = mend(texts_only, self.team(instructions), aim, key, self.mends)
        return str(json.loads(patch)["edits"][0]["text"])

    def result(self, team: TeamSpec, claim: float) -> Result:
        """Return what a search that chose `team` came to."""
        return Result(self.world.expected(team), claim, len(self.paid), self.calls, self.reflections)


def mend(known: World, team: TeamSpec, aim: Aim, key: str, count: int) -> str:
    """Return the critic's patch: of the first `count` things that the finding says are lacking."""
    parts = re.findall(r"[^.;]*lacks [a-z]+", aim.text)[:count]
    if count == 1 or len(parts) < 2:
        return repair(known, team, aim, key)
    patch = ""
    for part in parts:
        patch = repair(known, team, replace(aim, text=part), f"{key} {part}")
        changed = apply(team, Patch.model_validate_json(patch))
        if isinstance(changed, Refusal) or "set_instructions" not in patch:
            return patch
        team = changed
    return patch


# ours


def ours(server: Server, seed: int, name: str, validation: int) -> Result:
    """Run one of our profiles until a budget is spent."""
    ids = [item.id for item in server.items[: TRAIN + validation]]
    player = Player(server.world, server.items)
    search = TextualSearch(server.world.start(), ids[:TRAIN], ids[TRAIN:], textual_profile(name), seed)
    while not search.done:
        trial = search.ask(1)[0]
        if server.calls >= server.budget[0] or (server.full and not isinstance(trial.candidate, Forward)):
            break
        search.tell(trial, _evaluate(server, player, trial.candidate))  # type: ignore[arg-type]
    scored = search.passes.scored(search.incumbent, search.items, (0,))
    means = [statistics.fmean(one.score for one in drawn) for drawn in scored.values()]
    return server.result(search.incumbent, statistics.fmean(means) if means else float("nan"))


def _evaluate(server: Server, player: Player, trial: TextualTrial) -> Outcome:
    if isinstance(trial, Forward):
        outcome = player.evaluate(trial)
        assert isinstance(outcome, Scored)
        server.pay(trial.team.hash, trial.item, int(outcome.values["calls"]))
        return outcome
    server.reflections += 1
    if isinstance(trial, Repair) and server.mends > 1:
        key = f"{trial.team.hash} {trial.index} {trial.attempt}"
        return Scored(read_patch(mend(server.world, trial.team, player.aim(trial), key, server.mends)))
    return player.evaluate(trial)


# GEPA


def gepa_original(server: Server, seed: int, validation: int) -> Result:
    """Run GEPA through its adapter, with its defaults but for the budgets and the number of validation items."""
    import gepa

    found = gepa.optimize(
        seed_candidate={"solver": server.world.solver().instructions},
        trainset=server.items[:TRAIN],
        valset=server.items[TRAIN : TRAIN + validation],
        adapter=_Adapter(server),
        reflection_lm=lambda prompt: _reflect(server, prompt),
        stop_callbacks=lambda state: server.full,
        logger=_Silent(),
        cache_evaluation=True,
        track_best_outputs=False,
        seed=seed,
    )
    told = found.candidates[found.best_idx]["solver"]
    return server.result(server.team(told), found.val_aggregate_scores[found.best_idx])


class _Silent:
    def log(self, message: str) -> None: ...


class _Adapter:
    """The scripted agent as GEPA asks for it."""

    propose_new_texts = None

    def __init__(self, server: Server) -> None:
        self.server = server

    def evaluate(self, batch: list[TaskItem], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        from gepa.core.adapter import EvaluationBatch

        answers = [self.server.answer(candidate["solver"], item) for item in batch]
        traces = [(item, *answer) for item, answer in zip(batch, answers, strict=True)]
        scores = [score for score, _ in answers]
        return EvaluationBatch([text for _, text in answers], scores, traces if capture_traces else None)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> dict[str, list[dict[str, str]]]:
        rows = []
        for item, score, text in eval_batch.trajectories:
            feedback = "Right." if score else f"Wrong: {item.gold} was wanted."
            rows.append({"Inputs": item.question, "Generated Outputs": text, "Feedback": feedback})
        return dict.fromkeys(components_to_update, rows)


def _reflect(server: Server, prompt: str) -> str:
    """Answer GEPA's reflection prompt: instructions and examples in, new instructions out, each in a fenced block."""
    server.reflections += 1
    current = prompt.split("```")[1].strip()
    key = f"{digest(prompt)} {server.reflections}"
    return f"```\n{server.revise(current, lacking(server.world, prompt), key)}\n```"


# TextGrad


def textgrad_original(server: Server, seed: int, validation: int) -> Result:
    """Run TextGrad's prompt optimisation: batches of 3, an update, taken back where the validation mean falls."""
    tg, functions = _textgrad()
    engine = _engine(server)
    start = server.world.solver().instructions
    prompt = tg.Variable(start, requires_grad=True, role_description="instructions of the solver")
    model = tg.BlackboxLLM(engine, prompt)
    optimiser = tg.TextualGradientDescent([prompt], engine=engine)
    right = functions.StringBasedFunction(_verdict, "Whether the answer is the one that was wanted.")
    kept, best = prompt.value, _mean(server, prompt.value, validation)
    step = 0
    while not server.full:
        batch = generator(seed, "textgrad-batch", step).sample(server.items[:TRAIN], 3)
        step += 1
        optimiser.zero_grad()
        losses = [_loss(tg, model, right, item) for item in batch]
        tg.sum(losses).backward(engine)
        optimiser.step()
        mean = _mean(server, prompt.value, validation)
        if mean < best:
            prompt.set_value(kept)
        else:
            kept, best = prompt.value, mean
    return server.result(server.team(kept), best)


def _textgrad() -> tuple[Any, Any]:
    os.environ.setdefault("TEXTGRAD_LOG_DIR", tempfile.mkdtemp())  # else it writes a log where it is imported
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its importing asks the network for prices
    import textgrad
    from textgrad.autograd import string_based_ops

    textgrad.logger.disabled = True
    return textgrad, string_based_ops


def _mean(server: Server, instructions: str, validation: int) -> float:
    return statistics.fmean(server.answer(instructions, item)[0] for item in server.items[TRAIN : TRAIN + validation])


def _loss(tg: Any, model: Any, right: Any, item: TaskItem) -> Any:
    question = tg.Variable(item.question, requires_grad=False, role_description="question to the solver")
    wanted = tg.Variable(str(item.gold), requires_grad=False, role_description="answer that was wanted")
    return right(inputs={"prediction": model(question), "wanted": wanted})


def _verdict(prediction: Any, wanted: Any) -> str:
    return str(int(prediction.value.endswith(f"Answer: {wanted.value}")))


def _engine(server: Server) -> Any:
    """Return the scripted agent and critic as one of TextGrad's engines, told apart by what is asked."""
    from textgrad.engine import EngineLM

    asked = {item.question: item for item in server.items}

    class Engine(EngineLM):  # type: ignore[misc]
        model_string = "scripted"

        def generate(self, prompt: str, system_prompt: str | None = None, **_: Any) -> str:
            if prompt in asked:
                return server.answer(str(system_prompt), asked[prompt])[1]
            server.reflections += 1
            if "<IMPROVED_VARIABLE>" in prompt:
                return f"<IMPROVED_VARIABLE>{_improve(server, prompt)}</IMPROVED_VARIABLE>"
            lacks = lacking(server.world, prompt)
            return f"The prompt lacks {server.world.tag_of[lacks[0]]}." if lacks else "Nothing to better here."

        __call__ = generate

    return Engine()


def _improve(server: Server, prompt: str) -> str:
    """Answer the optimiser: its prompt shows long instructions in part, but a conversation shows them whole."""
    current = re.search(r"<LM_SYSTEM_PROMPT>\s*(.*?)\s*</LM_SYSTEM_PROMPT>", prompt, re.DOTALL)
    assert current, "an optimiser's prompt without the conversation that it is about"
    feedback = re.findall(r"<FEEDBACK>(.*?)</FEEDBACK>", prompt, re.DOTALL)
    lacks = sorted(lacking(server.world, " ".join(feedback)))  # its gradients are a set, in no order that repeats
    return server.revise(current[1], lacks, f"{digest([current[1], lacks])} {server.reflections}")


# all of them

OURS = "ours, plait, 300"
METHODS: dict[str, Callable[[Server, int], Result]] = {
    "ours, plait, 300": lambda server, seed: ours(server, seed, "plait", 300),
    "ours, plait, 100": lambda server, seed: ours(server, seed, "plait", 100),
    "ours, gepa, 100": lambda server, seed: ours(server, seed, "gepa", 100),
    "ours, textgrad, 100": lambda server, seed: ours(server, seed, "textgrad", 100),
    "gepa, 300": lambda server, seed: gepa_original(server, seed, 300),
    "gepa, 100": lambda server, seed: gepa_original(server, seed, 100),
    "textgrad, 100": lambda server, seed: textgrad_original(server, seed, 100),
}


def installed() -> dict[str, str]:
    """Return the versions of the originals that are there; say which are not."""
    versions = {}
    for name in ("gepa", "textgrad"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            print(f"{name} is not installed (pip install -e '.[originals]'): left out")
    return versions


def figures(results: Sequence[Result]) -> dict[str, Any]:
    """Return medians over seeds, and ranges of what counts."""
    middle = {name: round(statistics.median(asdict(one)[name] for one in results), 3) for name in asdict(results[0])}
    accuracies = sorted(one.accuracy for one in results)
    optimism = statistics.median(one.claim - one.accuracy for one in results)
    return {**middle, "range": [round(accuracies[0], 3), round(accuracies[-1], 3)], "optimism": round(optimism, 3)}


def line(name: str, row: dict[str, Any]) -> str:
    """Return a row of the table."""
    low, high = row["range"]
    spent = f"items {row['items']:6.0f}  calls {row['calls']:6.0f}  reflections {row['reflections']:4.0f}"
    true = f"true {row['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
    return f"  {name:20} {true}  claims {row['claim']:.3f} ({row['optimism']:+.3f})  {spent}"


def compare(found: dict[str, list[Result]], start: float) -> dict[str, Any]:
    """Return the gain of `plait` over that of the better of GEPA's settings, and who won by seed."""
    settings = [name for name in found if name.startswith("gepa")]
    if not settings:
        return {"ratio": None, "against": None, "wins": None}
    medians = {name: statistics.median(one.accuracy for one in found[name]) for name in (*settings, OURS)}
    best = max(settings, key=lambda name: medians[name])
    leads = [mine.accuracy - other.accuracy for mine, other in zip(found[OURS], found[best], strict=True)]
    wins = [sum(lead > 1e-9 for lead in leads), sum(lead < -1e-9 for lead in leads)]
    gain, theirs = medians[OURS] - start, medians[best] - start
    return {"ratio": round(gain / theirs, 3) if theirs > 1e-9 else None, "against": best, "wins": wins}


def main() -> None:
    """Run everything on every server at every budget, and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    versions = installed()
    methods = {name: run for name, run in METHODS.items() if name.split(",")[0] in {"ours", *versions}}
    table: dict[str, dict[str, Any]] = {}
    ratios: dict[str, dict[str, Any]] = {}
    for server, (mends, structure) in SERVERS.items():
        worlds = [world(seed, structure=structure) for seed in seeds]
        start, best = worlds[0].expected(worlds[0].start()), statistics.median(one.best() for one in worlds)
        for budget in BUDGETS:
            label = f"{server}, {budget[0]} calls, {budget[1]} reflections"
            print(f"{label} (start {start:.3f}, best reachable {best:.3f})")
            table[label], found = {}, {}
            for name, run in methods.items():
                found[name] = [run(Server(worlds[seed], mends, budget), seed) for seed in seeds]
                table[label][name] = figures(found[name])
                print(line(name, table[label][name]), flush=True)
            ratios[label] = compare(found, start)
    main_label = f"one, {BUDGETS[1][0]} calls, {BUDGETS[1][1]} reflections"
    rest = {"cores": os.cpu_count(), "seeds": len(seeds), "versions": versions, "ratios": ratios, "runs": table}
    print(json.dumps({"name": "team_originals", **ratios[main_label], **rest}))


if __name__ == "__main__":
    main()
