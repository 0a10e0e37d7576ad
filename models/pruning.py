"""Networks made smaller by what their weights say: channels by norm or batch-norm scale, single weights by magnitude.

The rivals of every search. Whole channels are pruned once, to a target, and the smaller network is trained with
`init="sorted"`; single weights are pruned again and again (lottery tickets), which makes fewer of them and no network
faster. Must not know searches or Ray.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ..architecture_groups import channel_groups, channel_origins, shrunk
from ..architectures import Architecture, ShapeError
from ..errors import SpecError, StoreError
from ..records import JSON, Failed, Outcome, Request, Scored, digest, seed_of
from .checkpoints import Checkpoint, Checkpoints
from .distill import Diverged, FitSet, check_fits, measure, one_thread, optimiser_of, train_epoch
from .images import Part
from .inheritance import Floats, channel_norms, inherit
from .network import Network, State, build, label, state_of, tensors, with_state
from .students import StudentSetup, read_item

Cost = Callable[[Architecture], float]


def l1_widths(teacher: Network, cost: Cost, limit: float, narrowest: int = 4) -> Architecture:
    """Return the teacher without the channels of smallest L1 norm, the largest such network within the limit.

    A channel's norm is that of all filters that make it, over the mean of its group, so that one threshold serves
    layers of any size (Li et al., arXiv 1608.08710, prune each layer by itself).

    Args:
        teacher: Trained.
        cost: What the limit bounds.
        limit: The largest cost allowed.
        narrowest: Channels left of a group at least, where it has as many.

    Raises:
        SpecError: every group at its narrowest is past the limit.
    """
    norms = channel_norms(teacher.arch, state_of(teacher))
    relative = [group / max(float(group.mean()), 1e-12) for group in norms]
    return _thresholded(teacher.arch, relative, cost, limit, narrowest)


def bn_widths(teacher: Network, cost: Cost, limit: float, narrowest: int = 4) -> Architecture:
    """Return the teacher without the channels of smallest batch-norm scale, the largest such network within the limit.

    A channel's scale is the mean |gamma| of the norms that see it; groups that no norm sees keep their width (network
    slimming, Liu et al., arXiv 1708.06519; the teacher is taken as it is, trained without a penalty on scales).

    Args:
        teacher: Trained.
        cost: What the limit bounds.
        limit: The largest cost allowed.
        narrowest: Channels left of a group at least, where it has as many.

    Raises:
        SpecError: the network has no batch norm, or every group at its narrowest is past the limit.
    """
    arch, state = teacher.arch, state_of(teacher)
    total = [np.zeros(group.width) for group in channel_groups(arch)]
    seen = [0] * len(total)
    for at, origins in enumerate(channel_origins(arch)):
        if arch.layers[at].op != "norm" or not arch.layers[at].affine:
            continue
        scales = np.abs(state[f"{label(arch, at)}.weight"].astype(np.float64))
        for run in origins.made:
            width = len(total[run.group])
            part = scales[run.start : run.start + width * run.repeat]
            total[run.group] += part.reshape(width, run.repeat).mean(1)
            seen[run.group] += 1
    if not any(seen):
        raise SpecError("pruning by batch-norm scale", "a network without batch norm", "one with a norm or more")
    scores = [sums / count if count else np.full(len(sums), np.inf) for sums, count in zip(total, seen, strict=True)]
    return _thresholded(arch, scores, cost, limit, narrowest)


def _thresholded(
    arch: Architecture, scores: Sequence[Floats], cost: Cost, limit: float, narrowest: int
) -> Architecture:
    """Return the network of the channels above the lowest threshold that is within the limit."""
    groups = channel_groups(arch)
    free = [group_scores for group, group_scores in zip(groups, scores, strict=True) if not group.fixed]
    finite = np.concatenate([*free, np.zeros(0)])
    thresholds = [-np.inf, *np.unique(finite[np.isfinite(finite)])]

    def at(place: int) -> Architecture:
        counts = [int((group_scores > thresholds[place]).sum()) for group_scores in scores]
        least = [min(narrowest, group.width) for group in groups]
        return shrunk(arch, [max(pair) for pair in zip(counts, least, strict=True)])

    low, high = 0, len(thresholds) - 1  # costs fall as thresholds rise
    if cost(at(high)) > limit:
        smallest = f"{cost(at(high)):g} or more: every channel group at its narrowest"
        raise SpecError("target", limit, smallest)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(at(middle)) <= limit else (middle + 1, high)
    return at(high)


class LotteryTrainer:
    """Iterative magnitude pruning with rewinding: `candidate` is "ARCHITECTURE@LEVEL", `item` {"seed", "split"}.

    Level 0 trains the network for the last rung's epochs. Level l prunes `fraction` of the weights left, those of
    smallest magnitude over all convolutions and linear layers, sets the rest back to what they were after `rewind`
    epochs, and trains with a fresh optimiser for those that follow; (1 - fraction) ** l of the weights are left, and
    what is pruned stays 0.

    `Scored.values` are `accuracy`, `loss` (nats), `correct`, `n`, `kept` (share of the weights), `params` that are not
    pruned, norms and biases among them, `epochs` over all levels so far, and `curve`, the validation accuracy at each
    level's end. `Scored.cost` is what was trained now: `epochs`, and `seconds`.

    Source: Frankle and Carbin, arXiv 1803.03635; rewinding: Frankle et al., arXiv 1912.05671. Unlike in these, losses
    are those of `setup`: students of every method learn from the same teacher.
    """

    name: ClassVar[str] = "lottery"
    version: ClassVar[int] = 1
    """Raise it whenever a change here, in training, inheritance or networks may change a value."""

    def __init__(
        self,
        setup: StudentSetup,
        folder: Path | str | None = None,
        test: Callable[[], Part] | None = None,
        *,
        rewind: int = 1,
        fraction: float = 0.2,
        levels: int = 64,
    ) -> None:
        """Take what `StudentTrainer` takes, and how often and how much to prune.

        Args:
            setup: Settings, data, teachers.
            folder: Of checkpoints, one a level; None keeps none, and each level is reached from the first.
            test: Returns the test part; called when an item's split is "test", never before.
            rewind: Epochs after which the weights are kept to go back to; 0 for those drawn.
            fraction: Share of the weights left that a level prunes.
            levels: The highest level.

        Raises:
            SpecError: `rewind` leaves nothing to train, or `fraction` is not a share.
        """
        self._last = setup.training.schedule[-1]
        if not 0 <= rewind < self._last:
            raise SpecError("lottery: rewind", rewind, f"0 to {self._last - 1} epochs, fewer than are trained")
        if not 0 < fraction < 1:
            raise SpecError("lottery: fraction", fraction, "a share between 0 and 1")
        self._setup, self._test, self._rewind, self._fraction, self._levels = setup, test, rewind, fraction, levels
        self._folder = None if folder is None else Path(folder)
        self._fit = FitSet(setup.data, setup.targets)

    @property
    def spec(self) -> JSON:
        """The part of the ledger key that this evaluator answers for."""
        return {"student": self._setup.spec, "rewind": self._rewind, "fraction": self._fraction}

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return one outcome a request, in order; `Failed` reasons are those of `StudentTrainer`."""
        return [self._outcome(request) for request in requests]

    def network(self, candidate: str, seed: int) -> Network:
        """Return the trained network of a level, its pruned weights 0.

        Raises:
            SpecError: no such candidate.
            Diverged: its loss is not finite.
        """
        arch, level = self._parse(candidate)
        return self._reached(arch, level, seed, [0]).network

    def _outcome(self, request: Request) -> Outcome:
        spent, started = [0], time.perf_counter()

        def cost() -> dict[str, float]:
            return {"epochs": float(spent[0]), "seconds": time.perf_counter() - started}

        try:
            arch, level = self._parse(request.candidate)
            seed, split = read_item(request.item)
            values = self._values(arch, level, seed, split, spent)
        except ShapeError as error:
            return Failed("Invalid", str(error), cost=cost())
        except Diverged as error:
            return Failed("Diverged", str(error), cost=cost())
        except SpecError as error:
            return Failed("BadInput", str(error), cost=cost())
        except StoreError as error:
            return Failed("StoreError", str(error), retryable=True, cost=cost())
        return Scored(values, cost())

    def _values(self, arch: Architecture, level: int, seed: int, split: str, spent: list[int]) -> dict[str, JSON]:
        store = self._store(arch, seed)
        best = next(store.found(), None) if store and split == "validation" else None
        results = best.results if best else ()
        if len(results) <= level:
            ticket = self._reached(arch, level, seed, spent)
            results = tuple(ticket.results)
        measured = results[level] if split == "validation" else results[level] | self._tested(ticket.network)
        epochs = self._last + level * (self._last - self._rewind)
        return {**measured, "epochs": epochs, "curve": [result["accuracy"] for result in results[: level + 1]]}

    def _parse(self, candidate: str) -> tuple[Architecture, int]:
        text, _, number = candidate.rpartition("@")
        if not (number.isdecimal() and int(number) <= self._levels):
            raise SpecError("lottery: level", number, f"0 to {self._levels}, after an architecture and @")
        arch = Architecture.parse(text)
        check_fits(arch, self._setup.data)
        return arch, int(number)

    def _tested(self, network: Network) -> dict[str, JSON]:
        if self._test is None:
            raise SpecError("item.split", "test", "validation: this trainer was given no test examples")
        with one_thread():
            return measure(network, *self._test()).to_json()

    def _reached(self, arch: Architecture, level: int, seed: int, spent: list[int]) -> "_Ticket":
        """Return the ticket of a level, from the highest checkpoint that is not above it."""
        store, own = self._store(arch, seed), seed_of(seed, arch.hash)
        with one_thread():
            ticket = self._restored(arch, level, store) or self._first(arch, own, store, spent)
            while len(ticket.results) <= level:
                ticket = self._trained(ticket.pruned(self._fraction), own, store, spent)
        return ticket

    def _first(self, arch: Architecture, own: int, store: Checkpoints | None, spent: list[int]) -> "_Ticket":
        """Return level 0: trained whole, with the weights of its rewinding point."""
        how, seed = self._setup.training.init, seed_of(own, "weights")
        teacher = self._setup.teacher
        network = build(arch, seed) if teacher is None else inherit(arch, with_state(*teacher), how, seed)
        optimiser = optimiser_of(network, self._setup.training)
        self._epochs(network, optimiser, own, range(1, self._rewind + 1), spent)
        start = state_of(network)
        masks = {name: np.ones(start[name].shape, dtype=bool) for name in _prunable(arch)}
        return self._trained(_Ticket(network, start, masks, []), own, store, spent, optimiser)

    def _trained(
        self, ticket: "_Ticket", own: int, store: Checkpoints | None, spent: list[int],
        optimiser: torch.optim.Optimizer | None = None,
    ) -> "_Ticket":  # fmt: skip
        """Train from the rewinding point to the last epoch, and measure."""
        network = ticket.network
        optimiser = optimiser or optimiser_of(network, self._setup.training)
        with _masked(network, ticket.masks):
            self._epochs(network, optimiser, own, range(self._rewind + 1, self._last + 1), spent)
        measured = measure(network, self._setup.data.validation_x, self._setup.data.validation_y)
        ticket.results.append({**measured.to_json(), **ticket.sizes})
        if store:
            store.save(ticket.checkpoint())
        return ticket

    def _epochs(
        self, network: Network, optimiser: torch.optim.Optimizer, own: int, epochs: range, spent: list[int]
    ) -> None:
        for epoch in epochs:
            spent[0] += 1
            train_epoch(network, optimiser, self._fit, self._setup.training, own, epoch)

    def _restored(self, arch: Architecture, level: int, store: Checkpoints | None) -> "_Ticket | None":
        for checkpoint in store.found() if store else ():
            if checkpoint.rung <= level:
                return _Ticket.of(arch, checkpoint)
        return None

    def _store(self, arch: Architecture, seed: int) -> Checkpoints | None:
        if self._folder is None:
            return None
        build_of = [torch.__version__, torch.backends.cpu.get_cpu_capability()]
        return Checkpoints(self._folder, digest([self.name, self.version, self.spec, build_of, arch.key, seed])[:32])


class _Ticket:
    """A trained network, the weights it is set back to, what is left of it, and each level's results so far."""

    def __init__(self, network: Network, start: State, masks: State, results: list[dict[str, JSON]]) -> None:
        self.network, self.start, self.masks, self.results = network, start, masks, results

    @property
    def sizes(self) -> dict[str, JSON]:
        """Share of the prunable weights that is left, and trained parameters that are not pruned."""
        left, all_ = (sum(int(f(mask)) for mask in self.masks.values()) for f in (np.count_nonzero, np.size))
        return {"kept": left / all_, "params": self.network.arch.params - (all_ - left)}

    def pruned(self, fraction: float) -> "_Ticket":
        """Return it set back, without `fraction` of the weights left: the smallest, and of equals the earlier."""
        state = state_of(self.network)
        magnitudes = np.concatenate([
            np.where(mask, np.abs(state[name]), np.inf).reshape(-1) for name, mask in self.masks.items()
        ])  # fmt: skip
        left = np.isfinite(magnitudes)
        gone = round(fraction * np.count_nonzero(left))
        left[np.argsort(magnitudes, kind="stable")[:gone]] = False
        ends = np.cumsum([mask.size for mask in self.masks.values()])
        parts = zip(self.masks.items(), np.split(left, ends[:-1]), strict=True)
        masks = {name: part.reshape(mask.shape) for (name, mask), part in parts}
        start = {name: array * masks[name] if name in masks else array for name, array in self.start.items()}
        return _Ticket(with_state(self.network.arch, start), self.start, masks, [*self.results])

    def checkpoint(self) -> Checkpoint:
        """Return it as arrays."""
        parts = {"network": state_of(self.network), "start": self.start, "masks": self.masks}
        arrays = {f"{part}/{name}": array for part, state in parts.items() for name, array in state.items()}
        return Checkpoint(len(self.results) - 1, arrays, tuple(self.results))

    @classmethod
    def of(cls, arch: Architecture, checkpoint: Checkpoint) -> "_Ticket":
        """Return the ticket of a checkpoint."""
        parts: dict[str, State] = {"network": {}, "start": {}, "masks": {}}
        for path, array in checkpoint.arrays.items():
            part, _, name = path.partition("/")
            parts[part][name] = array
        masks = {name: parts["masks"][name] for name in _prunable(arch)}
        return cls(with_state(arch, parts["network"]), parts["start"], masks, list(checkpoint.results))


def _prunable(arch: Architecture) -> list[str]:
    """Return the names of the weights that are pruned: of convolutions and linear layers, no biases."""
    return [f"{label(arch, at)}.weight" for at, layer in enumerate(arch.layers) if layer.op in ("conv", "linear")]


@contextmanager
def _masked(network: Network, masks: State) -> Iterator[None]:
    """Let no gradient reach what is pruned: at 0, with a fresh optimiser, it stays 0 exactly, decay or not."""
    own = tensors(network)
    hooks = [own[name].register_hook(partial(torch.mul, torch.from_numpy(mask))) for name, mask in masks.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
