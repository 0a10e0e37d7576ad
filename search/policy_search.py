"""Policy-gradient search over networks behind ask/tell: sample a batch, race it over the rungs, learn, go on.

Stages in turn, each a policy on one network: removal and shrinkage as published, or one joint decision a unit (ours).
The policies, their order and their settings come from a profile. What is asked depends on the seed and the outcomes
alone. Must not know what an epoch trains, nor what made a reward of its accuracy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..architectures import Architecture
from ..errors import SpecError
from ..records import Outcome, Scored, Trial, generator, seed_of
from .epochs import Epochs
from .halving import Rung
from .network_space import NetworkSpace
from .policy_learning import Learner, advantages
from .policy_nets import Policy, load_weights
from .policy_profiles import PLAIT, PolicyProfile
from .policy_rungs import Race, Scores
from .policy_stages import Stage, new_policy, new_stage
from .rewards import INVALID, constrained


@dataclass(slots=True)
class Rollout:
    """One sampled network.

    Attributes:
        stage: Index of the stage.
        iteration: Of the stage, from 0.
        actions: What the policy chose, step by step.
        key: Of the network; None where it is invalid.
        reward: What the policy learned from; None where the network failed or was not paid for.
    """

    stage: int
    iteration: int
    actions: list[int]
    key: str | None
    reward: float | None = None


@dataclass
class PolicySearch:
    """Policy-gradient search over the networks of `space`.

    Attributes:
        space: Teacher, limit and what may be decided.
        budget: Student-epochs; see `Epochs`. With two stages the first has half of it.
        profile: How to go about it.
        seed: Every draw is a function of (seed, stage, iteration, rollout).
        schedule: Epochs that a student has had at the end of each rung; None for the profile's.
        start: Saved policies to start from, by stage: what `policies` of a search gave, for this teacher or another.
            A stage that is not there starts untrained.
        first: Networks that are trained to the last rung before anything is sampled: what the search must beat. A
            race would compare them after one epoch, where an evenly scaled network often looks worse than it is.
        rollouts: All that were sampled, in order.
    """

    space: NetworkSpace
    budget: int
    profile: PolicyProfile = PLAIT
    seed: int = 0
    schedule: Sequence[int] | None = None
    start: Mapping[str, bytes] = field(default_factory=dict)
    first: tuple[Architecture, ...] = ()
    rollouts: list[Rollout] = field(default_factory=list, init=False)
    scores: Scores = field(default_factory=Scores, init=False)
    _stages: list[Stage] = field(default_factory=list, init=False)
    _past: list[float] = field(default_factory=list, init=False)
    _nets: dict[str, Architecture] = field(default_factory=dict, init=False)
    _keys: dict[tuple[int, ...], str | None] = field(default_factory=dict, init=False)
    _asked: int = field(default=0, init=False)
    _iteration: int = field(default=0, init=False)
    _idle: int = field(default=0, init=False)
    _race: Race | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.epochs = Epochs(self.budget, self.schedule or self.profile.schedule)
        self._policies: dict[str, Policy] = {
            name: new_policy(name, self.space.factors, seed_of(self.seed, "stage", at))
            for at, name in enumerate(self.profile.stages)
        }
        for name, saved in self.start.items():
            if name not in self._policies:
                raise SpecError(
                    "saved policy", name, f"a stage of {self.profile.name}: {', '.join(self.profile.stages)}"
                )
            load_weights(self._policies[name], saved)
        self._open_stage()
        self._nets |= {arch.key: arch for arch in self.first}
        self._batch: list[Rollout] = []
        if self.first:
            last = len(self.epochs.schedule) - 1
            self._race = Race(list(self.first), self.scores, self.epochs, self.profile.eta, start=last)
        self._advance()

    @property
    def done(self) -> bool:
        """Whether the budget is spent, or the last policy has nothing new to ask."""
        return self._race is None

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` trials of the batch at hand; `[]` while its outcomes are awaited."""
        taken = self._race.take(n) if self._race else []
        trials = [Trial(self._asked + at, rung) for at, rung in enumerate(taken)]
        self._asked += len(trials)
        return trials

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Learn a reward; the batch's last one is what the policy learns from."""
        assert isinstance(trial.candidate, Rung), "a trial of another search"
        assert self._race is not None, "told more than was asked"
        reward = float(outcome.values["reward"]) if isinstance(outcome, Scored) else None
        self.scores.record(trial.candidate.candidate.key, trial.candidate.rung, reward)
        self._race.tell()
        self._advance()

    @property
    def best(self) -> Architecture | None:
        """The network of the largest promise so far; one within the limit where there is one."""
        promises = self._promises()
        if not promises:
            return None
        return max(promises, key=lambda arch: (self.space.feasible(arch), promises[arch]))

    def policies(self) -> dict[str, bytes]:
        """Return the policies as they are now, by stage: `start` of another search takes them."""
        return {name: policy.to_bytes() for name, policy in self._policies.items()}

    # -- the program: whatever can be done without a further outcome is done at once, so that `done` is exact

    def _advance(self) -> None:
        while self._race is None or self._race.finished:
            if self._race is not None:
                if self._batch:
                    self._learn()
                self._race = None
            if self._stage_ends() and not self._next_stage():
                return
            self._sample()

    def _stage_ends(self) -> bool:
        profile, epochs = self.profile, self.epochs
        last = len(self._stages) == len(profile.stages)
        share = self.budget if last else self.budget * len(self._stages) // len(profile.stages)
        spent = epochs.spent + epochs.schedule[0] > share
        enough = profile.iterations is not None and self._iteration >= profile.iterations
        return spent or enough or self._idle >= profile.patience or not self._stages[-1].steps.features

    def _next_stage(self) -> bool:
        """Go on to the next stage; return whether there is one with something to decide."""
        while len(self._stages) < len(self.profile.stages):
            self._open_stage()
            if not self._stage_ends():
                return True
        return False

    def _open_stage(self) -> None:
        at = len(self._stages)
        name = self.profile.stages[at]
        self._stages.append(new_stage(name, self.space, self.best or self.space.teacher))
        self._learner = Learner(self._policies[name], self.profile.rates[at], self.profile.passes)
        self._iteration = self._idle = 0
        self._past = []

    def _sample(self) -> None:
        at, stage = len(self._stages) - 1, self._stages[-1]
        draws = range(self.profile.rollouts)
        rngs = [generator(self.seed, "rollout", at, self._iteration, draw) for draw in draws]
        self._batch = []
        for actions in self._learner.policy.sample(stage.steps, rngs):
            key = self._key_of(stage, actions)
            self._batch.append(Rollout(at, self._iteration, actions, key))
        self.rollouts += self._batch
        keys = dict.fromkeys(rollout.key for rollout in self._batch if rollout.key)
        before = self.epochs.spent
        self._race = Race([self._nets[key] for key in keys], self.scores, self.epochs, self.profile.eta)
        self._idle = self._idle + 1 if self.epochs.spent == before else 0

    def _key_of(self, stage: Stage, actions: list[int]) -> str | None:
        """Return the key of the network of these actions; a policy that has settled repeats them."""
        choice = (len(self._stages), *actions)
        if choice not in self._keys:
            arch = stage.architecture(actions)
            self._keys[choice] = arch.key if arch else None
            if arch is not None:
                self._nets.setdefault(arch.key, arch)
        return self._keys[choice]

    def _learn(self) -> None:
        """Credit the batch, and step; rollouts that failed or were not paid for teach nothing."""
        gains = self.scores.gains()
        for rollout in self._batch:
            rollout.reward = self._reward(rollout.key, gains)
        known = [rollout for rollout in self._batch if rollout.reward is not None]
        rewards = [rollout.reward for rollout in known if rollout.reward is not None]
        credit = advantages(rewards, self.profile.baseline, self._past)
        self._past += rewards
        self._iteration += 1
        if known:
            left = max(self.epochs.left, 0) / self.budget
            actions = [rollout.actions for rollout in known]
            self._learner.update(self._stages[-1].steps, actions, credit, self.profile.entropy * left)

    def _reward(self, key: str | None, gains: Sequence[float]) -> float | None:
        if key is None:
            return INVALID
        promise = self.scores.promise(key, gains)
        if promise is None:
            return None
        # The unit policy is projected on the limit; the published ones pay for passing it, more so as they go on.
        return constrained(promise, not self.space.feasible(self._nets[key]), self._iteration)

    def _promises(self) -> dict[Architecture, float]:
        gains = self.scores.gains()
        found = ((self._nets[key], self.scores.promise(key, gains)) for key in self.scores.known)
        return {arch: promise for arch, promise in found if promise is not None}
