"""Policies as networks: removal, autoregressive shrinkage, and one joint decision a unit. Knows no reward.

All are float32 on one thread, with seeded weights that no global generator sees, so that a replayed search samples
the same bits. A policy reads features alone: one trained on a network starts a search on another.
"""

import json
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ..errors import SpecError
from ..records import canonical, seed_of

HIDDEN = 30
LAYERS = 2
"""Of the published policies (released code)."""

NEVER = -1e9
"""Logit of an illegal choice; finite, so that 0 * log 0 is 0 and not NaN."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: what a matrix product adds up to may depend on how many share it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Steps:
    """The decisions on one network, in their order.

    Attributes:
        features: [steps][numbers], what the policy reads at each step.
        legal: [steps][choices], what may be chosen; empty where everything may.
        earlier: For each step the earlier steps that scaled its layer, as (step, place in its features); read by the
            autoregressive policy alone.
    """

    features: Sequence[Sequence[float]]
    legal: Sequence[Sequence[bool]] = ()
    earlier: Sequence[Sequence[tuple[int, int]]] = ()

    def tensor(self) -> Tensor:
        """Return the features, [steps, numbers]."""
        return torch.tensor(self.features, dtype=torch.float32)

    def masked(self, logits: Tensor) -> Tensor:
        """Return `logits` [..., steps, choices] with illegal choices ruled out."""
        if not self.legal:
            return logits
        return logits.masked_fill(~torch.tensor(self.legal, dtype=torch.bool), NEVER)


class Policy(nn.Module):
    """What every policy does: sample rollouts, and give the log-probabilities of rollouts."""

    kind: ClassVar[str]

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.sizes = sizes

    def log_probs(self, steps: Steps, actions: Sequence[Sequence[int]]) -> Tensor:
        """Return [rollouts, steps, choices]: log-probabilities of every choice, given the earlier ones of `actions`."""
        raise NotImplementedError

    def sample(self, steps: Steps, rngs: Sequence[random.Random]) -> list[list[int]]:
        """Return one rollout for each generator: an action a step."""
        raise NotImplementedError

    def to_bytes(self) -> bytes:
        """Return kind, sizes and weights as safetensors."""
        weights = {name: value.detach().clone() for name, value in self.state_dict().items()}
        return bytes(save(weights, metadata={"policy": canonical({"kind": self.kind, "sizes": self.sizes})}))

    def _seed(self, seed: int, output: nn.Linear, scale: float = 1.0) -> None:
        """Draw every weight as torch does by default, from a generator of its own; the output layer's times `scale`."""
        source = torch.Generator().manual_seed(seed_of(seed, "policy", self.kind) >> 1)
        bound = 1.0 / math.sqrt(self.sizes["hidden"])
        with torch.no_grad():
            for _, weights in sorted(self.named_parameters()):
                weights.uniform_(-bound, bound, generator=source)
            output.weight.mul_(scale)
            output.bias.mul_(scale)


class RemovalPolicy(Policy):
    """Bidirectional LSTM over the layers, then drop (0) or keep (1) for each: stage 1 as published."""

    kind = "removal"

    def __init__(self, seed: int, inputs: int = 7, hidden: int = HIDDEN, layers: int = LAYERS) -> None:
        super().__init__(inputs=inputs, hidden=hidden, layers=layers)
        with torch.device("meta"):
            self.lstm = nn.LSTM(inputs, hidden, layers, bidirectional=True)
            self.output = nn.Linear(2 * hidden, 2)
        self.to_empty(device="cpu")
        self._seed(seed, self.output)

    def log_probs(self, steps: Steps, actions: Sequence[Sequence[int]]) -> Tensor:
        """Return [rollouts, steps, 2]; no step depends on another's action."""
        hidden, _ = self.lstm(steps.tensor())
        logits = torch.log_softmax(steps.masked(self.output(hidden)), dim=-1)
        return logits.expand(len(actions), -1, -1)

    def sample(self, steps: Steps, rngs: Sequence[random.Random]) -> list[list[int]]:
        """Return keep bits, a rollout for each generator."""
        with one_thread(), torch.no_grad():
            table = _cumulated(self.log_probs(steps, [[]])[0])
        return [[_pick(row, rng.random()) for row in table] for rng in rngs]


class UnitPolicy(RemovalPolicy):
    """Bidirectional LSTM over units, then one choice for each: drop it (0), or keep it at one of the widths.

    `prior` is the log-probability, up to a constant, that each choice starts with.
    """

    kind = "units"

    def __init__(self, seed: int, inputs: int, choices: int, hidden: int = 32, prior: Sequence[float] = ()) -> None:
        Policy.__init__(self, inputs=inputs, choices=choices, hidden=hidden)
        with torch.device("meta"):
            self.lstm = nn.LSTM(inputs, hidden, 1, bidirectional=True)
            self.output = nn.Linear(2 * hidden, choices)
        self.to_empty(device="cpu")
        self._seed(seed, self.output, 0.1)
        if prior:
            with torch.no_grad():
                self.output.bias.add_(torch.tensor(prior, dtype=torch.float32))


class ShrinkagePolicy(Policy):
    """Autoregressive LSTM: the previous factor in front of the layer's numbers, then one of the factors: stage 2.

    A layer's numbers are multiplied by the factors already chosen for it, as in the released code.
    """

    kind = "shrinkage"

    def __init__(
        self, seed: int, factors: Sequence[float], inputs: int = 8, hidden: int = HIDDEN, layers: int = LAYERS
    ) -> None:
        super().__init__(inputs=inputs, hidden=hidden, layers=layers, choices=len(factors))
        self.factors = tuple(factors)
        with torch.device("meta"):
            # One module: cells in a plain list, as in the released code, are never registered and never trained.
            self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True)
            self.output = nn.Linear(hidden, len(factors))
        self.to_empty(device="cpu")
        self._seed(seed, self.output)

    def log_probs(self, steps: Steps, actions: Sequence[Sequence[int]]) -> Tensor:
        """Return [rollouts, steps, factors], each step given the actions before it."""
        chosen = torch.tensor([[self.factors[action] for action in rollout] for rollout in actions])
        inputs = torch.stack([self._input(steps, at, chosen) for at in range(len(steps.features))], dim=1)
        hidden, _ = self.lstm(inputs)
        return torch.log_softmax(steps.masked(self.output(hidden)), dim=-1)

    def sample(self, steps: Steps, rngs: Sequence[random.Random]) -> list[list[int]]:
        """Return indices of factors, a rollout for each generator."""
        actions: list[list[int]] = [[] for _ in rngs]
        chosen = torch.zeros(len(rngs), len(steps.features))
        state: Any = None
        with one_thread(), torch.no_grad():
            for at in range(len(steps.features)):
                hidden, state = self.lstm(self._input(steps, at, chosen)[:, None], state)
                logits = self.output(hidden[:, 0])
                table = _cumulated(torch.log_softmax(logits, dim=-1))
                for rollout, (row, rng) in enumerate(zip(table, rngs, strict=True)):
                    actions[rollout].append(_pick(row, rng.random()))
                    chosen[rollout, at] = self.factors[actions[rollout][-1]]
        return actions

    @staticmethod
    def _input(steps: Steps, at: int, chosen: Tensor) -> Tensor:
        """Return [rollouts, inputs] of step `at`: the previous factor (1 at first), the layer as shrunk so far."""
        rows = torch.tensor(steps.features[at], dtype=torch.float32).expand(len(chosen), -1).clone()
        for step, place in steps.earlier[at] if steps.earlier else ():
            rows[:, place] *= chosen[:, step]
        before = chosen[:, at - 1 : at] if at else torch.ones(len(chosen), 1)
        return torch.cat([before, rows], dim=1)


def _cumulated(log_probs: Tensor) -> list[list[float]]:
    """Return [steps][choices], the chance of a choice no later than each; a choice of no chance adds nothing."""
    rows: list[list[float]] = torch.cumsum(log_probs.double().exp(), dim=-1).tolist()
    return rows


def _pick(row: Sequence[float], at: float) -> int:
    """Return the choice at `at` (0..1) of the cumulated chances; never one of no chance."""
    mark = at * row[-1]
    last = 0
    for choice, reached in enumerate(row):
        if reached > (row[choice - 1] if choice else 0.0):
            last = choice
            if reached > mark:
                return choice
    return last


def load_weights(policy: Policy, saved: bytes) -> None:
    """Give `policy` the weights of a saved one.

    Raises:
        SpecError: `saved` is no policy, or one of another kind or size.
    """
    about, expected = _about(saved), {"kind": policy.kind, "sizes": policy.sizes}
    if about != expected:
        raise SpecError("saved policy", about, f"a policy as this search has it: {expected}")
    weights = load(saved)
    shapes = {name: tuple(value.shape) for name, value in policy.state_dict().items()}
    if {name: tuple(value.shape) for name, value in weights.items()} != shapes:
        raise SpecError("saved policy", sorted(weights), f"weights {sorted(shapes)} of the sizes that it names")
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise SpecError("saved policy", "weights that are not finite", "finite numbers")
    policy.load_state_dict(weights)


def _about(saved: bytes) -> Any:
    """Return kind and sizes from the header of a safetensors file."""
    try:
        load(saved)
        header = json.loads(saved[8 : 8 + int.from_bytes(saved[:8], "little")])
        return json.loads(header["__metadata__"]["policy"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise SpecError("saved policy", f"{len(saved)} bytes", "a policy saved by Plait, in safetensors") from error
