"""The studies of a compression run as strands: searches beside rivals, then each one's choice on the test part."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...architecture_groups import channel_groups, shrunk
from ...architectures import Architecture
from ...errors import SpecError
from ...models.distill import Training
from ...models.network import Network
from ...models.pruning import bn_widths, l1_widths
from ...models.students import item_of
from ...records import Scored, Trial, seed_of
from ...search.asha import Asha
from ...search.base import Search
from ...search.evolution import Evolution
from ...search.fixed import FixedSearch
from ...search.halving import Rung
from ...search.network_space import NetworkSpace
from ...search.policy_profiles import policy_profile
from ...search.policy_search import PolicySearch
from ...search.rewards import n2n_reward
from ...search.uniform import even_students, uniform_students
from ..study import Objective, Strand
from .compress_records import Finalist, Student
from .compress_spec import CompressSpec

PUBLISHED = "n2n-paper"
PRUNED = 0.2
"""Share of the weights left that each level of a lottery ticket prunes (open_lth's default)."""


@dataclass(frozen=True)
class Problem:
    """What is to be compressed, and how far.

    Attributes:
        space: Networks that come of the teacher, within the limit.
        teacher: With its weights.
        accuracy: Of the teacher on validation examples.
        policy: Saved policies to start from, by the name of their stage.
    """

    space: NetworkSpace
    teacher: Network
    accuracy: float
    policy: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def limit(self) -> float:
        """The most that a student may cost."""
        assert self.space.limit is not None, "a compression has a target"
        return self.space.limit


def training_of(spec: CompressSpec, method: str) -> Training:
    """Return how a method's students are trained in its search: the spec's way, or as published."""
    if method != PUBLISHED:
        return spec.training
    changes = {"init": "random", "schedule": policy_profile(PUBLISHED).schedule}
    return spec.training.model_copy(update=changes)


def final_training(spec: CompressSpec, method: str) -> Training:
    """Return how a method's chosen student is trained at last."""
    return training_of(spec, method).model_copy(update={"schedule": (spec.final_epochs,)})


def student_seed(spec: CompressSpec, at: int) -> int:
    """Return the seed of all students of the searches with index `at`; 63 bits, which any database holds."""
    return seed_of(spec.seed, "students", at) >> 1


def search_strands(spec: CompressSpec, problem: Problem, methods: Sequence[str]) -> list[Strand]:
    """Return `seeds` searches of each method; all students of one seed index begin and shuffle alike."""
    strands = []
    for method in methods:
        for at in range(spec.seeds):
            own = seed_of(spec.seed, "plait" if method == "untrained" else method, at)  # it differs in learning alone
            search = _MAKERS[method](spec, problem, own, training_of(spec, method).schedule)
            item, reward = item_of(student_seed(spec, at)), objective(method, problem)
            strands.append(Strand(f"{method}/{at}", search, item, reward, f"{method}/{at}"))
    return strands


def lottery_levels(problem: Problem) -> int:
    """Return how often a fifth of the weights is pruned until the share left is the limit's in the teacher's cost."""
    share = problem.limit / problem.space.cost(problem.space.teacher)
    return max(1, math.ceil(math.log(share) / math.log(1 - PRUNED)))


def lottery_training(spec: CompressSpec, problem: Problem) -> Training:
    """Return how each level of the lottery ticket is trained: all levels together cost what a search may spend."""
    epochs = max(2, spec.budget // (lottery_levels(problem) + 1))
    return spec.training.model_copy(update={"init": "random", "schedule": (epochs,)})


def lottery_strands(spec: CompressSpec, problem: Problem) -> list[Strand]:
    """Return for each seed the teacher's network, pruned level by level to the limit, measured on test at the last.

    Its weights are drawn anew: a ticket is found in a network, not in a trained teacher.
    """
    last, strands = Rung(problem.teacher.arch, lottery_levels(problem)), []
    for at in range(spec.seeds):
        for split in ("validation", "test"):
            item = item_of(student_seed(spec, at), split)
            strands.append(Strand(f"{split}/lottery/{at}", FixedSearch([last]), item, group=f"lottery/{at}"))
    return strands


def final_strands(spec: CompressSpec, chosen: Sequence[Student]) -> list[Strand]:
    """Return each search's chosen student, to be trained to the end, measured on validation and, once, on test."""
    strands = []
    for student in chosen:
        whole, seed = Rung(Architecture.parse(student.arch), 0), student_seed(spec, student.seed)
        for split in ("validation", "test"):
            name = f"{split}/{student.method}/{student.seed}"
            strands.append(Strand(name, FixedSearch([whole]), item_of(seed, split), group=whole.key))
    return strands


def objective(method: str, problem: Problem) -> Objective:
    """Return what a method's search learns from: validation accuracy, or as published C (2 - C) A / A_teacher.

    Ours and its rivals ask only students within the limit, so accuracy is all that tells theirs apart; the published
    search adds what a violated limit costs by itself, since that depends on its iteration.
    """
    if method != PUBLISHED:
        return _accuracy
    whole = problem.teacher.arch.params

    def reward(trial: Trial, outcome: Scored) -> Scored:
        size = trial.candidate.candidate.params  # type: ignore[attr-defined]
        return Scored({"reward": n2n_reward(outcome.values["accuracy"], problem.accuracy, size, whole)})

    return reward


def finalists(chosen: Sequence[Student], outcomes: Mapping[str, Scored], epochs: int) -> list[Finalist]:
    """Return those of the chosen whose final training gave both figures."""
    found = []
    for student in chosen:
        place = f"{student.method}/{student.seed}"
        validated, tested = outcomes.get(f"validation/{place}"), outcomes.get(f"test/{place}")
        if validated is not None and tested is not None:
            right, n = tested.values["correct"], tested.values["n"]
            found.append(Finalist(student, right, n, validated.values["accuracy"], epochs))
    return found


def _accuracy(trial: Trial, outcome: Scored) -> Scored:
    return Scored({"reward": outcome.values["accuracy"], "accuracy": outcome.values["accuracy"]})


def _policy(name: str) -> Callable[[CompressSpec, Problem, int, Sequence[int]], Search]:
    def make(spec: CompressSpec, problem: Problem, seed: int, schedule: Sequence[int]) -> Search:
        profile = policy_profile(name)
        # A saved policy is of one profile's stages: the other profile, as a rival, starts from nothing.
        start = {stage: weights for stage, weights in problem.policy.items() if stage in profile.stages}
        # Ours must beat the teacher scaled evenly, so that takes part, at a quarter of the budget or so; as published
        # nothing does but what is sampled.
        even = () if name == PUBLISHED else even_students(problem.space)
        even = even[: max(1, spec.budget // (4 * schedule[-1]))]
        return PolicySearch(problem.space, spec.budget, profile, seed, schedule, start, even)

    return make


def _random(spec: CompressSpec, problem: Problem, seed: int, schedule: Sequence[int]) -> Search:
    return Asha(problem.space, spec.budget, seed, schedule)


def _evolution(spec: CompressSpec, problem: Problem, seed: int, schedule: Sequence[int]) -> Search:
    return Evolution(problem.space, spec.budget, seed, schedule=schedule, highest=len(schedule) - 1)


def _uniform(spec: CompressSpec, problem: Problem, seed: int, schedule: Sequence[int]) -> Search:
    return uniform_students(problem.space, spec.budget, schedule)


def _pruning(spec: CompressSpec, problem: Problem, seed: int, schedule: Sequence[int]) -> Search:
    """Return L1 and batch-norm-scale pruning of the teacher's channels to the limit, trained to the last rung."""
    space, nets = problem.space, list[Architecture]()
    for prune in (l1_widths, bn_widths):
        try:
            nets.append(prune(problem.teacher, space.cost, problem.limit))
        except SpecError:  # no batch norm, or widths alone do not reach the target: `left_out` says so
            continue
    unique = {net.key: Rung(net, len(schedule) - 1) for net in nets}
    return FixedSearch(list(unique.values()))


def left_out(methods: Sequence[str], space: NetworkSpace) -> dict[str, str]:
    """Return which of the rivals cannot run on this teacher, whole or in part, and why: known before it is trained."""
    if "pruning" not in methods:
        return {}
    assert space.limit is not None, "a compression has a target"
    least = shrunk(space.teacher, [min(4, group.width) for group in channel_groups(space.teacher)])
    if space.cost(least) > space.limit:
        return {"pruning": f"every width at its narrowest costs {space.cost(least):g}, the limit is {space.limit:g}"}
    if not any(layer.op == "norm" for layer in space.teacher.layers):
        return {"pruning by batch-norm scale": "the network has no batch norm; pruning by L1 norm runs"}
    return {}


_MAKERS: dict[str, Callable[[CompressSpec, Problem, int, Sequence[int]], Search]] = {
    "plait": _policy("plait"), "untrained": _policy("untrained"), "n2n-paper": _policy("n2n-paper"),
    "random": _random, "evolution": _evolution, "uniform": _uniform, "pruning": _pruning,
}  # fmt: skip
"""Searches behind one protocol; the lottery ticket is none: it trains one network again and again."""
