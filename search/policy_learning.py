"""How a policy learns from rewards: advantages, REINFORCE and clipped reuse, entropy. Knows no architectures."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .policy_nets import Policy, Steps, one_thread

Baseline = Literal["past", "rloo", "group"]


def advantages(rewards: Sequence[float], baseline: Baseline, past: Sequence[float] = ()) -> list[float]:
    """Return what each rollout is credited with: its own reward against a baseline.

    Args:
        rewards: Of one batch.
        baseline: `past`: the mean of all earlier rewards, 0 before there are any (N2N, section 3.3); `rloo`: the mean
            of the others of the batch; `group`: the batch's mean, in units of its standard deviation.
        past: Earlier rewards.

    The released code credits every rollout of a batch with the same number, the batch's mean against half of what it
    calls a moving average.
    """
    count = len(rewards)
    if baseline == "past":
        expected = sum(past) / len(past) if past else 0.0
        return [reward - expected for reward in rewards]
    if count < 2:
        return [0.0] * count
    mean = sum(rewards) / count
    if baseline == "rloo":
        return [(reward - mean) * count / (count - 1) for reward in rewards]
    deviation = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / count)
    return [(reward - mean) / deviation if deviation > 1e-8 else 0.0 for reward in rewards]


class Learner:
    """Adam on one policy.

    Args:
        policy: What learns.
        rate: Learning rate.
        passes: Gradient steps that a batch of rewards serves for; 1 is plain REINFORCE.
        clip: Further passes stop where a decision's probability ratio leaves 1 - clip .. 1 + clip (PPO, Schulman et
            al., arXiv 1707.06347, equation 7).
    """

    def __init__(self, policy: Policy, rate: float, passes: int = 1, clip: float = 0.2) -> None:
        self.policy, self._passes, self._clip = policy, passes, clip
        self._optimiser = torch.optim.Adam(policy.parameters(), lr=rate)

    def update(
        self, steps: Steps, actions: Sequence[Sequence[int]], credit: Sequence[float], entropy: float = 0.0
    ) -> None:
        """Make rollouts of positive credit likelier, others less; `entropy` is the weight of the bonus a step."""
        weights = torch.tensor(credit, dtype=torch.float32)[:, None]
        with one_thread():
            before: Tensor | None = None
            for _ in range(self._passes):
                table = self.policy.log_probs(steps, actions)
                chosen = table.gather(2, torch.tensor(actions)[..., None])[..., 0]
                before = chosen.detach() if before is None else before
                gain = self._gain(chosen, before, weights).sum(dim=1).mean()
                spread = -(table.exp() * table).sum(dim=-1).sum(dim=1).mean()
                self._optimiser.zero_grad()
                (-(gain + entropy * spread)).backward()  # type: ignore[no-untyped-call]
                self._optimiser.step()

    def _gain(self, chosen: Tensor, before: Tensor, weights: Tensor) -> Tensor:
        """Return [rollouts, steps], the surrogate to be raised."""
        if self._passes == 1:
            return chosen * weights
        ratio = (chosen - before).exp()
        return torch.minimum(ratio * weights, ratio.clamp(1 - self._clip, 1 + self._clip) * weights)
