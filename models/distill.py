"""How a network is trained and measured: settings, losses, one epoch, teachers. Must not know searches or Ray.

Everything here runs on one torch thread and draws from (seed, purpose, epoch): equal arguments give equal bits.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from ..architectures import Architecture
from ..errors import NotFinite, PlaitError, SpecError
from ..records import JSON, digest, seed_of
from .images import Array, ImageData, array_digest, permutation
from .network import Network, build, state_of

EVALUATED = 500
"""Examples measured at a time."""


class Training(BaseModel):
    """How students are trained. The defaults are N2N's for MNIST, but for the rungs.

    Source: arXiv 1709.06030 and its released code: Adam, 5e-4, logits alone, 5 epochs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    optimiser: Literal["adam", "sgd"] = "adam"
    """`sgd` has Nesterov momentum 0.9."""
    learning_rate: float = Field(default=5e-4, gt=0, allow_inf_nan=False)
    """The same in every epoch, so that what a student is after an epoch depends on no later one."""
    weight_decay: float = Field(default=5e-4, ge=0, allow_inf_nan=False)
    """Added to the gradient, times the weight."""
    batch: int = Field(default=64, ge=2)
    """Examples a step; batch norm needs two."""
    loss: Literal["mse", "kl", "hard"] = "mse"
    """`mse` of logits, `kl` of softened outputs (times temperature squared), or `hard`: labels alone, no teacher."""
    hard_weight: float = Field(default=0.0, ge=0, le=1)
    """Share of the labels' cross-entropy beside the teachers' loss."""
    temperature: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    """Of `kl`."""
    dropped_targets: NonNegativeInt = 0
    """Soft targets left out of each batch at random, one always stays (DGKD, Son et al., ICCV 2021)."""
    init: Literal["random", "slice", "sorted"] = "sorted"
    """Fresh weights, or the teacher's first channels, or its channels of greatest L1 norm."""
    schedule: tuple[PositiveInt, ...] = Field(default=(1, 2, 4, 8, 16), min_length=1)
    """Epochs in all at the end of each rung."""
    decay: Literal["none", "cosine"] = "none"
    """`cosine` lowers the rate to 0 over all epochs: for teachers alone, since a rung would depend on later ones."""

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if list(self.schedule) != sorted(set(self.schedule)):
            raise ValueError(f"schedule: each rung has more epochs than the one before, not {self.schedule}")
        return self


@dataclass(frozen=True)
class SoftTargets:
    """What one teacher or assistant says of every fit example.

    Attributes:
        logits: [fit examples, its classes], float32.
        classes: Which of the student's classes they are about, in the order of the logits; None for all.
        weight: Of its loss; losses are added.
        source: Digest of the network that they come from; "" where it is unknown. With it a run can be continued
            where logits have other last bits.
    """

    logits: Array
    classes: tuple[int, ...] | None = None
    weight: float = 1.0
    source: str = ""

    @property
    def identity(self) -> JSON:
        """What values depend on, as JSON."""
        source = self.source or array_digest(self.logits)
        return {"source": source, "classes": self.classes and list(self.classes), "weight": self.weight}


@dataclass(frozen=True)
class Measured:
    """What a network does on a set of examples: mean cross-entropy in nats, and how many it names right."""

    loss: float
    correct: int
    n: int

    @property
    def accuracy(self) -> float:
        """Share named right."""
        return self.correct / self.n

    def to_json(self) -> dict[str, JSON]:
        """Return it with its accuracy."""
        return {**asdict(self), "accuracy": self.accuracy}


class Diverged(PlaitError):
    """A loss is NaN or infinite: what it is, and where."""

    def __init__(self, loss: float, where: str) -> None:
        super().__init__(loss, where)
        self.loss, self.where = loss, where

    def __str__(self) -> str:
        return f"loss {self.loss} {self.where}"


class FitSet:
    """What is trained on, as tensors over the arrays' own memory, which may be read-only."""

    def __init__(self, data: ImageData, targets: Sequence[SoftTargets] = ()) -> None:
        """Check that the targets fit the data; raises SpecError where one does not."""
        self.x, self.y = viewed(data.fit_x), viewed(data.fit_y)
        self.targets = [
            (viewed(one.logits), None if one.classes is None else torch.tensor(one.classes), one.weight)
            for one in targets
        ]
        for at, one in enumerate(targets):
            wanted = (len(data.fit_x), data.classes if one.classes is None else len(one.classes))
            if one.logits.shape != wanted:
                raise SpecError(f"soft targets {at}", one.logits.shape, f"logits of shape {wanted}")
            if any(not 0 <= c < data.classes for c in one.classes or ()):
                raise SpecError(f"soft targets {at}", one.classes, f"classes 0 to {data.classes - 1}")


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: bits are promised for that alone, and workers share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def viewed(array: Array) -> Tensor:
    """Return a tensor over the array's memory, read-only or not; nobody writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def network_digest(network: Network) -> str:
    """Return the SHA-256 of a network: architecture and weights."""
    state = state_of(network)
    return digest([network.arch.key, [[name, array_digest(state[name])] for name in sorted(state)]])


def laid_out(rows: Tensor) -> Tensor:
    """Return a batch in the layout in which convolutions over images take the least time here: channels last."""
    return rows.contiguous(memory_format=torch.channels_last) if rows.dim() == 4 else rows


def lay_out(network: Network) -> None:
    """Put a network's weights in the layout of its batches; one layout always: another gives other last bits."""
    module: Any = network  # torch's types leave `memory_format` out
    module.to(memory_format=torch.channels_last)


def optimiser_of(network: Network, training: Training) -> torch.optim.Optimizer:
    """Return the optimiser of a training that begins; the weights are laid out for it."""
    lay_out(network)
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(network.parameters(), lr=rate, weight_decay=decay, momentum=0.9, nesterov=True, fused=True)


def train_epoch(
    network: Network, optimiser: torch.optim.Optimizer, fit: FitSet, training: Training, seed: int, epoch: int
) -> float:
    """Run one epoch over all fit examples, batch norm in train mode; return the mean loss.

    Args:
        network: Trained in place.
        optimiser: Of its weights, with what earlier epochs left in it.
        fit: What is trained on.
        training: Settings.
        seed: Of the student. Order, dropout and dropped targets belong to (seed, epoch).
        epoch: Counted from 1.

    Raises:
        Diverged: a loss is not finite.
    """
    network.train()  # in every epoch: measuring switches it off, and frozen statistics train another network
    order = torch.from_numpy(permutation(len(fit.x), seed, "epoch", epoch))
    count, total = len(fit.targets), 0.0
    kept_count = max(1, count - training.dropped_targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "dropout", epoch))
        for number, batch in enumerate(batches(order, training.batch)):
            kept: Sequence[int] = range(count)
            if kept_count < count:
                kept = sorted(permutation(count, seed, "dropped targets", epoch, number)[:kept_count].tolist())
            # Rows are gathered into fresh memory: kernels may round otherwise where memory is aligned otherwise.
            loss = batch_loss(network(laid_out(fit.x[batch])), fit, batch, training, kept)
            value = loss.item()
            if not math.isfinite(value):
                raise Diverged(value, f"in epoch {epoch}")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += value * len(batch)
    return total / len(order)


def batches(order: Tensor, size: int) -> Iterator[Tensor]:
    """Yield parts of `order`, each index in one; the last takes in a lone one, which batch norm could not train on."""
    count, start = len(order), 0
    while start < count:
        stop = start + size
        if stop + 1 >= count:
            stop = count
        yield order[start:stop]
        start = stop


def batch_loss(logits: Tensor, fit: FitSet, batch: Tensor, training: Training, kept: Sequence[int]) -> Tensor:
    """Return the loss of a batch: the kept teachers' losses, added, and the labels' cross-entropy, mixed.

    Source: `mse` N2N section 3.5; `kl` Hinton et al., arXiv 1503.02531; several targets TAKD and DGKD (assistants),
    and Gao et al., arXiv 1711.07607 (a teacher for some of the classes).
    """
    hard = 1.0 if training.loss == "hard" else training.hard_weight
    loss = hard * F.cross_entropy(logits, fit.y[batch]) if hard else logits.new_zeros(())
    for at in kept if hard < 1 else ():
        theirs, classes, weight = fit.targets[at]
        mine = logits if classes is None else logits[:, classes]
        loss = loss + (1 - hard) * weight * soft_loss(mine, theirs[batch], training)
    return loss


def soft_loss(student: Tensor, teacher: Tensor, training: Training) -> Tensor:
    """Return what tells the student's logits [batch, classes] from the teacher's."""
    if training.loss == "mse":
        return F.mse_loss(student, teacher)
    heat = training.temperature
    mine, theirs = F.log_softmax(student / heat, 1), F.log_softmax(teacher / heat, 1)
    return F.kl_div(mine, theirs, reduction="batchmean", log_target=True) * heat**2


def measure(network: Network, x: Array, y: Array) -> Measured:
    """Return loss and accuracy in evaluation mode.

    Raises:
        Diverged: the loss is not finite.
    """
    logits, labels = torch.from_numpy(logits_of(network, x)), torch.tensor(y)
    loss = F.cross_entropy(logits, labels).item()
    if not math.isfinite(loss):
        raise Diverged(loss, "when measured")
    return Measured(loss, int((logits.argmax(1) == labels).sum()), len(y))


def logits_of(network: Network, x: Array) -> Array:
    """Return the network's outputs, [examples, classes], in evaluation mode."""
    network.eval()
    lay_out(network)
    rows = viewed(x)
    with torch.inference_mode(), one_thread():
        parts = [network(laid_out(rows[at : at + EVALUATED].clone())) for at in range(0, len(rows), EVALUATED)]
    return torch.cat(parts).numpy()


def soft_targets(network: Network, x: Array, classes: Sequence[int] | None = None, weight: float = 1.0) -> SoftTargets:
    """Return what a network says of every fit example: computed once, shared by all students.

    Raises:
        NotFinite: it says NaN or infinities of some.
    """
    about, logits = None if classes is None else tuple(classes), logits_of(network, x)
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        raise NotFinite(f"a teacher's logits of {int(broken.sum())} of {len(logits)} fit examples")
    return SoftTargets(logits, about, weight, network_digest(network))


def train_teacher(
    arch: Architecture, data: ImageData, training: Training, seed: int
) -> tuple[Network, list[dict[str, JSON]]]:
    """Train a network on labels for the last rung's epochs; return it with an entry a rung: epochs, loss, accuracy, ...

    Raises:
        ShapeError: the network does not run on these examples.
        SpecError: its classes are not the data's, or the training diverges.
    """
    check_fits(arch, data)
    training = training.model_copy(update={"loss": "hard"})
    network, fit = build(arch, seed_of(seed, "teacher")), FitSet(data)
    optimiser, curve = optimiser_of(network, training), list[dict[str, JSON]]()
    epochs = training.schedule[-1]
    try:
        with one_thread():
            for epoch in range(1, epochs + 1):
                if training.decay == "cosine":
                    for group in optimiser.param_groups:
                        group["lr"] = training.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
                train_epoch(network, optimiser, fit, training, seed_of(seed, "teacher"), epoch)
                if epoch in training.schedule:
                    measured = measure(network, data.validation_x, data.validation_y)
                    curve.append({"epochs": epoch, **measured.to_json()})
    except Diverged as error:
        raise SpecError("teacher: learning_rate", training.learning_rate, f"a smaller one: {error}") from error
    return network, curve


def check_fits(arch: Architecture, data: ImageData) -> None:
    """Raise SpecError where an architecture is not for these examples, ShapeError where they are too small for it."""
    if arch.input != data.input:
        raise SpecError("network: input", arch.input, f"{data.input}, the shape of the examples")
    if arch.shapes[-1] != (data.classes,):
        raise SpecError("network: classes", arch.shapes[-1], f"({data.classes},), one output a class")


def check_teacher(network: Network, data: ImageData) -> Measured:
    """Return what a teacher does on validation.

    Raises:
        SpecError: it is no better than naming one class always; nothing can be learnt from it.
    """
    check_fits(network.arch, data)
    measured = measure(network, data.validation_x, data.validation_y)
    if measured.accuracy <= data.chance:
        expected = f"more than {data.chance:.4f}, what always naming the most frequent label has on validation"
        raise SpecError("teacher: validation accuracy", round(measured.accuracy, 4), expected)
    return measured
