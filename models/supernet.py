"""One network that holds many: its prefixes are trained together, and any of them is scored without training.

The channels of every group are put in the order of their L1 norm, so that a narrower network is the first channels of
a wider one; blocks left out are the identity. Ranks under shared weights are biased: use them to screen, and train what
passes. Must not know searches or Ray.

Source: SortedNet, arXiv 2309.00255 (nested prefixes); the sandwich rule is Yu and Huang's, arXiv 1903.05134: each step
trains the largest, the smallest and a few between. Here each learns from the teachers' logits, where the smaller ones
of the paper learn from the largest.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from ..architecture_groups import Run, channel_groups, channel_origins
from ..architectures import Architecture, ShapeError
from ..errors import SpecError
from ..records import JSON, Failed, Outcome, Request, Scored, generator, seed_of
from .distill import (
    Diverged,
    FitSet,
    Measured,
    Training,
    batch_loss,
    batches,
    check_fits,
    measure,
    network_digest,
    one_thread,
    optimiser_of,
    viewed,
)  # fmt: skip
from .images import ImageData, Part, permutation
from .inheritance import FRESH, Ints, channel_norms, places, renormalise
from .network import Network, label, state_of, tensors, tensors_at, with_state
from .students import StudentSetup, read_item

CALIBRATION = (8, 128)
"""Batches, and examples of each, that the statistics of a prefix's norms are estimated from."""


class Subnetworks(Protocol):
    """Which prefixes are trained; a `NetworkSpace` is one."""

    def smallest(self) -> Architecture:
        """Return the smallest network."""
        ...

    def draw(self, rng: random.Random) -> Architecture:
        """Return a network."""
        ...


def reordered(network: Network) -> Network:
    """Return the same function with the channels of each group in falling order of their L1 norm.

    Channels that reach input or output, and those of grouped convolutions, stay where they are.
    """
    arch, state = network.arch, state_of(network)
    groups, origins = channel_groups(arch), channel_origins(arch)
    orders = [
        np.argsort(-norms, kind="stable") if not group.fixed and group.step == 1 else np.arange(group.width)
        for group, norms in zip(groups, channel_norms(arch, state), strict=True)
    ]
    for at, layer in enumerate(arch.layers):
        if layer.op not in ("conv", "linear", "norm"):
            continue
        rows, columns = (_order(runs, orders) for runs in (origins[at].made, origins[at].given))
        for name in tensors_at(network, at):
            tensor = state[f"{label(arch, at)}.{name}"][rows]
            if tensor.ndim > 1 and tensor.shape[1] == len(columns):  # else a filter sees part of the channels
                tensor = tensor[:, columns]
            state[f"{label(arch, at)}.{name}"] = tensor
    return with_state(arch, state)


def _order(runs: Sequence[Run], orders: Sequence[Ints]) -> Ints:
    """Return where each channel (or feature) of a layer was before."""
    parts = [(run.start + orders[run.group][:, None] * run.repeat + np.arange(run.repeat)).reshape(-1) for run in runs]
    return np.concatenate(parts)


def sliced(arch: Architecture, supernet: Network) -> Network:
    """Return a network of copies of the supernet's first channels.

    Raises:
        SpecError: `arch` is not within the supernet; the error names a tensor.
        ShapeError: a layer cannot run on what arrives.
    """
    whole = state_of(supernet)
    return with_state(arch, {name: whole[name].reshape(-1)[at] for name, at in _places(arch, supernet).items()})


def _places(arch: Architecture, supernet: Network) -> dict[str, Ints]:
    found = places(arch, supernet)
    for name, indices in found.items():
        if (indices == FRESH).any():
            raise SpecError(f"supernet: {name}", tuple(indices.shape), "a tensor within the supernet's")
    return found


class Prefix:
    """A network that runs on the supernet's own weights: gradients reach them."""

    def __init__(self, arch: Architecture, supernet: Network) -> None:
        """Find where its weights are; raises what `sliced` raises."""
        self._frame, self._own = Network(arch), tensors(supernet)
        found = _places(arch, supernet)
        self._indices: list[tuple[str, str, Tensor]] = []
        for at in self._frame.layers:
            for name, _ in self._frame.layers[at].named_parameters():
                source = f"{label(arch, int(at))}.{name}"
                self._indices.append((f"layers.{at}.{name}", source, torch.from_numpy(found[source])))
        self._frame.train()

    def __call__(self, x: Tensor) -> Tensor:
        """Return its outputs in train mode; norms use the batch's statistics and keep none."""
        weights = {own: self._own[source].reshape(-1)[indices] for own, source, indices in self._indices}
        return functional_call(self._frame, weights, (x,))


def train_supernet(
    teacher: Network, space: Subnetworks, setup: StudentSetup, epochs: int, seed: int, between: int = 2
) -> Network:
    """Return the teacher, reordered, trained so that its prefixes work too.

    Args:
        teacher: Where it begins.
        space: Whose networks are to be scored.
        setup: Data, targets and settings of students; one step costs `between` + 2 forward and backward passes.
        epochs: Over all fit examples.
        seed: Draws belong to (seed, epoch, step).
        between: Networks drawn a step, beside the largest and the smallest.

    Raises:
        SpecError: a network of the space is not within the teacher.
        Diverged: a loss is not finite.
    """
    network = reordered(teacher)
    training, fit = setup.training, FitSet(setup.data, setup.targets)
    optimiser, smallest = optimiser_of(network, training), Prefix(space.smallest(), network)
    own = seed_of(seed, "supernet")
    with one_thread(), torch.random.fork_rng(devices=[]):
        for epoch in range(1, epochs + 1):
            torch.manual_seed(seed_of(own, "dropout", epoch))
            order = torch.from_numpy(permutation(len(fit.x), own, "epoch", epoch))
            network.train()
            for step, batch in enumerate(batches(order, training.batch)):
                draws = [space.draw(generator(own, "prefix", epoch, step, number)) for number in range(between)]
                optimiser.zero_grad()
                runs: list[Callable[[Tensor], Tensor]] = [network, smallest]
                runs += [Prefix(arch, network) for arch in draws]
                for run in runs:
                    _backward(run, fit, batch, training, epoch)
                optimiser.step()
    return network


def _backward(run: Callable[[Tensor], Tensor], fit: FitSet, batch: Tensor, training: Training, epoch: int) -> None:
    """Add the gradient of one network's loss on a batch."""
    loss = batch_loss(run(fit.x[batch]), fit, batch, training, range(len(fit.targets)))
    if not math.isfinite(loss.item()):
        raise Diverged(loss.item(), f"of a prefix in epoch {epoch}")
    loss.backward()


class SupernetScorer:
    """Scores networks by slicing a trained supernet: `candidate` is "ARCHITECTURE@RUNG" as for `StudentTrainer`.

    The rung changes nothing: no epoch is trained. `Scored.values` are those of a student with `epochs` 0; the running
    statistics of norms are estimated for each network on fit examples.

    Args:
        supernet: From `train_supernet`.
        data: Fit and validation examples.
        test: Returns the test part; called when an item's split is "test", never before.
    """

    name: ClassVar[str] = "supernet"
    version: ClassVar[int] = 1
    """Raise it whenever a change here, in measuring, inheritance or networks may change a value."""

    def __init__(self, supernet: Network, data: ImageData, test: Callable[[], Part] | None = None) -> None:
        check_fits(supernet.arch, data)
        self._supernet, self._data, self._test = supernet, data, test
        count, size = CALIBRATION
        order = torch.from_numpy(permutation(len(data.fit_x), 0, "supernet", "calibration"))[: count * size]
        self._calibration = [viewed(data.fit_x)[batch] for batch in batches(order, size)]
        self._spec = {"supernet": network_digest(supernet), "data": data.digest, "calibration": list(CALIBRATION)}

    @property
    def spec(self) -> JSON:
        """The part of the ledger key that this evaluator answers for."""
        return self._spec

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return one outcome a request, in order; `Failed` reasons are `BadInput`, `Invalid` and `Diverged`."""
        return [self._outcome(request) for request in requests]

    def _outcome(self, request: Request) -> Outcome:
        started = time.perf_counter()

        def cost() -> dict[str, float]:
            return {"epochs": 0.0, "seconds": time.perf_counter() - started}

        try:
            text, _, _ = request.candidate.rpartition("@")
            measured = self._measured(Architecture.parse(text), read_item(request.item)[1])
        except ShapeError as error:
            return Failed("Invalid", str(error), cost=cost())
        except Diverged as error:
            return Failed("Diverged", str(error), cost=cost())
        except SpecError as error:
            return Failed("BadInput", str(error), cost=cost())
        return Scored({**measured.to_json(), "epochs": 0, "curve": []}, cost())

    def _measured(self, arch: Architecture, split: str) -> Measured:
        check_fits(arch, self._data)
        if split == "test" and self._test is None:
            raise SpecError("item.split", "test", "validation: this scorer was given no test examples")
        part = self._test() if split == "test" and self._test else (self._data.validation_x, self._data.validation_y)
        with one_thread():
            network = sliced(arch, self._supernet)
            renormalise(network, self._calibration)
            return measure(network, *part)
