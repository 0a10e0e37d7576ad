"""How a policy search goes about it: as published, and ours. Source: arXiv 1709.06030; specs/n2n, sections 2-7, 17."""

from dataclasses import dataclass, replace

from ..errors import SpecError
from .epochs import SCHEDULE
from .policy_learning import Baseline


@dataclass(frozen=True)
class PolicyProfile:
    """Settings of a policy search.

    Attributes:
        name: As it is written in specs.
        about: What it follows, in a line.
        stages: Policies in turn, of `removal`, `shrinkage` and `units`; each but the first starts from the best
            network of the one before.
        rates: Learning rate of each stage.
        rollouts: Networks sampled an iteration.
        iterations: Of each stage at most; None for as many as the budget pays for.
        schedule: Epochs that a student has had at the end of each rung, where the caller does not say.
        eta: How many of a batch compete for one place in the next rung.
        baseline: What a rollout's reward is compared with.
        passes: Gradient steps a batch.
        entropy: Weight of the entropy bonus at first, in rewards' units as `baseline` leaves them; it falls with the
            budget to 0.
        patience: Iterations in a row that ask nothing new, after which a stage ends.
    """

    name: str
    about: str
    stages: tuple[str, ...]
    rates: tuple[float, ...]
    rollouts: int
    iterations: int | None
    schedule: tuple[int, ...]
    eta: int
    baseline: Baseline
    passes: int
    entropy: float
    patience: int


PAPER = PolicyProfile(
    name="n2n-paper",
    about="N2N Learning, arXiv 1709.06030: removal, then shrinkage, REINFORCE, 5 epochs a student",
    stages=("removal", "shrinkage"),
    rates=(0.003, 0.1),
    rollouts=5,
    iterations=100,
    schedule=(5,),
    eta=2,
    baseline="past",
    passes=1,
    entropy=0.0,
    patience=100,
)

PLAIT = PolicyProfile(
    name="plait",
    about="ours: one decision a unit, all within the limit, group advantages, clipped reuse, halving in the batch",
    stages=("units",),
    rates=(0.02,),
    rollouts=8,
    iterations=None,
    schedule=SCHEDULE,
    eta=2,
    baseline="group",
    passes=4,
    entropy=0.02,
    patience=30,
)

UNTRAINED = replace(
    PLAIT, name="untrained", about="plait's search without learning: what its prior and its halving give", rates=(0.0,)
)

POLICY_PROFILES = {profile.name: profile for profile in (PAPER, PLAIT, UNTRAINED)}


def policy_profile(name: str) -> PolicyProfile:
    """Return the profile called `name`.

    Raises:
        SpecError: there is none; the error lists those there are.
    """
    if name not in POLICY_PROFILES:
        raise SpecError("profile", name, f"one of {', '.join(POLICY_PROFILES)}")
    return POLICY_PROFILES[name]
