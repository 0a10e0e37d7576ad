"""Short logits distillation of a cut decoder on a small text. Must not know cuts, searches, files or Ray.

The teacher runs once over the text. Kept are its last hidden states, not its logits (for a vocabulary of 49,152
those would be 85 times as many numbers); its head makes the logits again where a step needs them, the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import DataError
from ..records import generator
from .joint_tokens import opening_of


@dataclass(frozen=True, slots=True)
class Distillation:
    """How a student is trained.

    Attributes:
        batch: Sequences a step.
        rate: Highest learning rate (AdamW, no weight decay): it rises over the first tenth of the steps and falls
            to 0 in a straight line.
        loss: `kl`, from the teacher's distribution to the student's, or `mse` of the logits.
        temperature: Of both distributions, for `kl`; the loss is multiplied by its square (Hinton et al. 2015).
        clip: Largest norm of the gradient.
    """

    batch: int = 4
    rate: float = 5e-4
    loss: Literal["kl", "mse"] = "kl"
    temperature: float = 1.0
    clip: float = 1.0


def windows(tokenizer: Any, texts: Sequence[str], length: int, count: int, name: str) -> Tensor:
    """Return token ids [count, length]: the texts one after another, a blank line between, cut into windows.

    The texts are tokenised as the one text that the model reads, never one by one: a tokenizer that opens every text
    with a space would put one at the head of each. A window opens with what the tokenizer puts before any text.

    Raises:
        DataError: there is too little text.
    """
    opening = opening_of(tokenizer) if getattr(tokenizer, "bos_token_id", None) is not None else ()
    own = length - len(opening)
    if own < 1:
        raise DataError(f"text for {name}", f"windows of {length}", f"{len(opening) + 1} tokens or more")
    ids: list[int] = []
    joined, apart, enough = "", 0, count * own
    for at, text in enumerate(texts, start=1):
        joined += text + "\n\n"
        apart += len(tokenizer(text + "\n\n", add_special_tokens=False)["input_ids"])
        if apart >= enough or at == len(texts):
            ids = tokenizer(joined, add_special_tokens=False)["input_ids"]
            if len(ids) >= count * own:
                break
            enough = apart + max(1, count * own // 20)  # joined, texts may be fewer tokens than apart
    if len(ids) < count * own:
        raise DataError(f"text for {name}", f"{len(ids)} tokens", f"{count * own}: {count} windows of {own}")
    rows = torch.tensor(ids[: count * own]).view(count, own)
    return torch.cat([torch.tensor(opening, dtype=rows.dtype).expand(count, -1), rows], dim=1)


@torch.no_grad()
def last_states(model: Any, sequences: Tensor, batch: int = 4) -> Tensor:
    """Return the hidden states [sequences, length, hidden] that go into the head."""
    parts = [model.model(input_ids=part, use_cache=False).last_hidden_state for part in sequences.split(batch)]
    return torch.cat(parts)


def logits_of(model: Any, states: Tensor) -> Tensor:
    """Return the logits [..., vocabulary] of last hidden states: head and soft cap."""
    logits: Tensor = model.lm_head(states)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


@torch.inference_mode()
def sequence_nats(model: Any, sequences: Tensor, batch: int = 4) -> list[float]:
    """Return per sequence the nats of its tokens after the first, each predicted from those before it there."""
    sums: list[float] = []
    for part in sequences.split(batch):
        logits = logits_of(model, model.model(input_ids=part, use_cache=False).last_hidden_state[:, :-1])
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none")
        sums += nats.view(len(part), -1).double().sum(1).tolist()
    return sums


def distil(
    student: Any, teacher: Any, sequences: Tensor, states: Tensor, how: Distillation, *, steps: int, seed: int
) -> list[float]:
    """Train `student` in place to give the teacher's distributions, and return the loss of every step.

    Embeddings, and a head tied to them, stay as they are: a short training has little to add to them, and they are
    the costliest gradient of a small model. Sequences come in a seeded order, again and again.

    Args:
        student: A decoder with the teacher's vocabulary.
        teacher: For its head alone.
        sequences: [n, length], token ids.
        states: [n, length, hidden], the teacher's `last_states` of them.
        how: The settings.
        steps: Steps; the course of the learning rate depends on it.
        seed: Of the order.

    Returns:
        The losses; they end at the first that is not finite.
    """
    student.train().requires_grad_(True)
    student.get_input_embeddings().requires_grad_(False)
    student.get_output_embeddings().requires_grad_(False)
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=how.rate, betas=(0.9, 0.95), weight_decay=0.0)
    order = _order(len(sequences), steps * how.batch, seed)
    losses: list[float] = []
    for step in range(steps):
        rows = torch.tensor(order[step * how.batch : (step + 1) * how.batch])
        for group in optimiser.param_groups:
            group["lr"] = how.rate * _share(step, steps)
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            target = logits_of(teacher, states[rows])
        hidden = student.model(input_ids=sequences[rows], use_cache=False).last_hidden_state
        loss = _loss(logits_of(student, hidden), target, how)
        losses.append(float(loss.detach()))
        if not torch.isfinite(loss):
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, how.clip)
        optimiser.step()
    student.eval().requires_grad_(False)
    return losses


def _loss(logits: Tensor, target: Tensor, how: Distillation) -> Tensor:
    """Return the mean loss over tokens."""
    if how.loss == "mse":
        return torch.nn.functional.mse_loss(logits, target)
    ours = torch.log_softmax(logits.flatten(0, -2) / how.temperature, -1)
    theirs = torch.log_softmax(target.flatten(0, -2) / how.temperature, -1)
    divergence = torch.nn.functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return divergence * how.temperature**2


def _share(step: int, steps: int) -> float:
    """Return the part of the highest learning rate that a step takes."""
    rise = max(steps // 10, 1)
    return min((step + 1) / rise, (steps - step) / max(steps - rise, 1), 1.0)


def _order(count: int, wanted: int, seed: int) -> list[int]:
    """Return indices of sequences: one seeded shuffle after another, `wanted` in all."""
    order: list[int] = []
    while len(order) < wanted:
        part = list(range(count))
        generator(seed, "distillation", len(order)).shuffle(part)
        order += part
    return order[:wanted]
