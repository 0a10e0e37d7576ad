"""The three studies of a CoLa run as strands: search beside random search, the menu, re-verification."""

import math
from collections import Counter
from collections.abc import Sequence

from ...candidates import LayerPath
from ...records import Outcome, Scored, Trial, generator, seed_of
from ...search.fixed import FixedSearch
from ...search.profiles import profile
from ..data import Question
from ..study import Objective, Strand
from .cola_records import ItemRecord, PathScore, Rule, sizes_of
from .cola_spec import CoLaSpec


def search_strands(spec: CoLaSpec, questions: Sequence[Question], depth: int) -> list[Strand]:
    """Return the search of every question, and random search over the same paths beside it."""
    settings, strands = profile(spec.profile), []
    for question in questions:
        item, reward = question.item(spec.template), objective(question, spec)
        seed = seed_of(spec.seed, "search", question.id)
        found = settings.search(depth, spec.simulations, seed)
        strands.append(Strand(f"search/{question.id}", found, item, reward, question.id))
        if spec.random_baseline:
            seed = seed_of(spec.seed, "random", question.id)
            drawn = settings.random(depth, spec.simulations, seed)
            strands.append(Strand(f"random/{question.id}", drawn, item, reward, question.id))
    return strands


def menu_strands(spec: CoLaSpec, questions: Sequence[Question], menu: Sequence[LayerPath]) -> list[Strand]:
    """Return the same few paths for every question."""
    return [
        Strand(f"menu/{question.id}", FixedSearch(menu), question.item(spec.template), group=question.id)
        for question in questions
    ]


def verify_strands(spec: CoLaSpec, questions: Sequence[Question], paths: Sequence[LayerPath]) -> list[Strand]:
    """Return each question's reported path."""
    return [
        Strand(f"verify/{question.id}", FixedSearch([path]), question.item(spec.template), group=question.id)
        for question, path in zip(questions, paths, strict=True)
    ]


def objective(question: Question, spec: CoLaSpec) -> Objective:
    """Return the reward of a path on `question`: 1 for the right option.

    Under `margin` a wrong path gets sigmoid(right option's score - best option's score), below one half, so that
    the search can tell a near miss from a far one. Both use the answer: what they find is an oracle's.
    """

    def reward(trial: Trial, outcome: Scored) -> Scored:
        _, tokens, sizes = sizes_of(outcome)
        divide = {"sum": (1,) * len(tokens), "token": tokens, "byte": sizes}[spec.rule]
        values = [total / size for total, size in zip(outcome.values["sums"], divide, strict=True)]
        best = max(values)
        if values.index(best) == question.answer:
            return Scored({"reward": 1.0})
        if spec.reward == "right":
            return Scored({"reward": 0.0})
        return Scored({"reward": 1 / (1 + math.exp(min(50.0, best - values[question.answer])))})

    return reward


def split_of(spec: CoLaSpec, questions: Sequence[Question]) -> list[str]:
    """Return `dev` or `test` per question, drawn by seed, `dev_fraction` of them dev."""
    order = sorted(range(len(questions)), key=lambda at: generator(spec.seed, "split", questions[at].id).random())
    dev = set(order[: round(spec.dev_fraction * len(questions))])
    return ["dev" if at in dev else "test" for at in range(len(questions))]


def menu_candidates(items: Sequence[ItemRecord], rule: Rule, size: int) -> list[LayerPath]:
    """Return the identity and the `size` paths that were right most often on the dev items' searches.

    A path is known on few items only, so this is a short list to be measured on all of them, not a choice.
    """
    rights: Counter[LayerPath] = Counter()
    for item in items:
        if item.split == "dev":
            rights.update({score.path for score in (*item.search, *item.random) if item.right(score, rule)})
    identity = LayerPath.identity(items[0].depth)
    del rights[identity]
    ranked = sorted(rights, key=lambda path: (-rights[path], len(path), path.key))
    return [identity, *ranked[:size]]


def records(
    questions: Sequence[Question], splits: Sequence[str], depth: int, outcomes: dict[str, list[tuple[Trial, Outcome]]]
) -> list[ItemRecord]:
    """Return a record of every question whose identity was scored."""
    items = []
    for question, split in zip(questions, splits, strict=True):
        told = outcomes.get(f"search/{question.id}", [])
        scored = next((outcome for _, outcome in told if isinstance(outcome, Scored)), None)
        if scored is None or not isinstance(told[0][1], Scored):
            continue
        prompt_tokens, tokens, sizes = sizes_of(scored)
        search = tuple(PathScore.of(*pair) for pair in told)
        drawn = tuple(PathScore.of(*pair) for pair in outcomes.get(f"random/{question.id}", []))
        items.append(
            ItemRecord(
                question.id, question.question, question.choices, question.answer,
                prompt_tokens, tokens, sizes, depth, split, search, drawn,
            )
        )  # fmt: skip
    return items
