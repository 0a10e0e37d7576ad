"""Calls that only move numbers (views, splits, permutations, padding): which number goes where, and layers that do it.

The call itself is run on the numbers' own indices, so that what is read is what it does, whatever its name.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..architectures import Shape
from .tracing_record import Event

MOVES = {
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "unflatten", "transpose", "permute",
    "swapaxes", "swapdims", "movedim", "moveaxis", "contiguous", "clone", "detach", "expand", "expand_as", "alias",
    "split", "chunk", "tensor_split", "hsplit", "vsplit", "dsplit", "split_with_sizes", "unbind", "getitem", "narrow",
    "select", "index_select", "channel_shuffle", "native_channel_shuffle", "pixel_unshuffle", "pixel_shuffle", "flip",
    "fliplr", "flipud", "roll", "T", "mT", "H", "mH", "t", "ravel", "pad", "constant_pad_nd", "adjoint", "repeat",
    "tile", "broadcast_to", "repeat_interleave", "data", "rot90",
}  # fmt: skip
"""Functions that make a tensor of another's numbers, or of zeros, and compute nothing."""
CASTS = {"to", "float", "type", "type_as", "cpu", "cuda"}
"""What leaves numbers as they are where they stay float32."""
SHAPED = {"view_as", "reshape_as", "expand_as"}
"""Functions that take of their second tensor the shape alone."""
SPREADING = {"expand", "expand_as", "broadcast_to"}
"""Functions that repeat numbers over dimensions of size 1."""
MODULES = (
    nn.Flatten, nn.Unflatten, nn.ChannelShuffle, nn.PixelShuffle, nn.PixelUnshuffle, nn.ZeroPad1d, nn.ZeroPad2d,
)  # fmt: skip

Settings = dict[str, Any]
"""Fields of a `Layer`."""


class Unmoved(Exception):
    """No layers move numbers in this way; the text says how they move."""


def is_move(event: Event) -> bool:
    """Return whether a call only moves numbers, or puts zeros between them."""
    if event.module is not None:
        return isinstance(event.module, MODULES)
    if event.name in ("pad", "constant_pad_nd"):
        given = dict(zip(("input", "pad", "mode", "value"), event.args, strict=False)) | event.kwargs
        return not given.get("value") and given.get("mode", "constant") == "constant"
    return event.name in MOVES or event.name in CASTS


def followed(event: Event) -> int:
    """Return how many of the tensors that a moving call reads it moves: all but those of which it takes the shape."""
    return 1 if event.name in SHAPED else len(event.reads)


def keeps_order(given: Shape, index: Tensor) -> bool:
    """Return whether each example's numbers are all there, in their order."""
    return index.numel() == len(index) * math.prod(given) and torch.equal(
        index.reshape(-1), indices(len(index), given).reshape(-1)
    )


def indices(batch: int, shape: Shape) -> Tensor:
    """Return the place of each number, counted from 1; 0 stands for a zero that was put in."""
    return torch.arange(1, batch * math.prod(shape) + 1, dtype=torch.float64).reshape(batch, *shape)


def moving(given: Shape, index: Tensor, batch: int) -> list[Settings]:
    """Return layers that make of examples of shape `given` what `index` says, [batch, ...], places as in `indices`.

    Raises:
        Unmoved: no layers do.
    """
    first = one_example(given, index, batch)
    made, base = tuple(first.shape), indices(1, given)[0]
    if torch.equal(first.reshape(-1), base.reshape(-1)):
        return _reshaped(given, made)
    if len(made) == len(given):
        return _by_axis(given, first, base)
    if len(made) == 1:
        flat = base.reshape(-1)
        return [{"op": "flatten"}, *_by_axis(tuple(flat.shape), first, flat)]
    raise Unmoved(f"makes {made} of {given}, its numbers in another order")


def one_example(given: Shape, index: Tensor, batch: int) -> Tensor:
    """Return the places for one example, where each example's numbers are its own, moved alike."""
    if index.dim() < 2 or len(index) != batch:
        raise Unmoved(f"makes a tensor of shape {tuple(index.shape)}, where a batch of {batch} comes first")
    size, first = math.prod(given), index[0]
    for number in range(batch):
        if not torch.equal(index[number], torch.where(first > 0, first + number * size, first)):
            raise Unmoved("mixes the examples of a batch")
    return first


def is_spread(given: Shape, index: Tensor, batch: int) -> bool:
    """Return whether numbers are repeated over dimensions of size 1, as sums and products do by themselves."""
    first, base = one_example(given, index, batch), indices(1, given)[0]
    if first.dim() != base.dim() or any(size not in (1, full) for size, full in zip(given, first.shape, strict=True)):
        return False
    return torch.equal(first, base.expand(first.shape))


def _reshaped(given: Shape, made: Shape) -> list[Settings]:
    squeezed = given[0] == made[0] and math.prod(given[1:]) == math.prod(made[1:]) == 1 < min(len(given), len(made))
    if given == made or squeezed:
        return []
    if len(made) == 1:
        return [{"op": "flatten"}]
    raise Unmoved(f"makes {made} of {given}")


def _by_axis(given: Shape, first: Tensor, base: Tensor) -> list[Settings]:
    """Read a move that chooses along each dimension by itself, -1 for zeros."""
    chosen = []
    for axis, size in enumerate(given):
        rows = first.movedim(axis, 0).reshape(first.shape[axis], -1).max(1).values.to(torch.int64)
        below = math.prod(given[axis + 1 :])
        chosen.append(torch.where(rows > 0, (rows - 1).clamp(min=0) // below % size, -1).tolist())
    spare = torch.nn.functional.pad(base, (0, 1) * base.dim())
    if not torch.equal(first, spare[torch.meshgrid(*[torch.tensor(rows) for rows in chosen], indexing="ij")]):
        raise Unmoved(f"makes {tuple(first.shape)} of {given}, its numbers in another order")
    layers = _channels(chosen[0], given[0], len(given))
    steps = [_steps(rows, size) for rows, size in zip(chosen[1:], given[1:], strict=True)]
    before = [(0, 0), *((-start, stop - size) for (start, stop, *_), size in zip(steps, given[1:], strict=True))]
    if any(side for pair in before for side in pair):
        layers.append({"op": "pad", "sides": tuple(side for pair in before for side in pair)})
    strides = tuple(step for _, _, step, *_ in steps)
    if any(step > 1 for step in strides):
        layers.append({"op": "max_pool", "kernel": (1,), "stride": _short(strides)})
    after = [(0, 0), *((front, back) for *_, front, back in steps)]
    if any(side for pair in after for side in pair):
        layers.append({"op": "pad", "sides": tuple(side for pair in after for side in pair)})
    return _merged(layers)


def _merged(layers: list[Settings]) -> list[Settings]:
    """Return the layers with a pad directly after a pad of zeros alone as one."""
    merged: list[Settings] = []
    for layer in layers:
        last = merged[-1] if merged else None
        if last and last["op"] == layer["op"] == "pad" and _agree(last["sides"], layer["sides"]):
            last["sides"] = tuple(map(sum, zip(last["sides"], layer["sides"], strict=True)))
        else:
            merged.append(dict(layer))
    return merged


def _agree(one: Sequence[int], other: Sequence[int]) -> bool:
    return all(a == 0 or b == 0 for a, b in zip(one, other, strict=True))


def _channels(rows: list[int], size: int, dims: int) -> list[Settings]:
    """Return layers that choose channels: a part of them, dealt in turn, with zeros around."""
    if rows == list(range(size)):
        return []
    front, back = _zeros(rows)
    inner = rows[front : len(rows) - back]
    layers: list[Settings] = []
    if inner == list(range(inner[0], inner[0] + len(inner))):
        if len(inner) < size:
            layers.append({"op": "part", "start": inner[0], "out": len(inner), "whole": size})
    elif sorted(inner) == list(range(size)):
        groups = size // inner[1] if inner[1] > 0 and size % inner[1] == 0 else 0
        if not groups or inner != [at for step in range(size // groups) for at in range(step, size, size // groups)]:
            raise Unmoved("puts the channels in an order that no layer does")
        layers.append({"op": "shuffle", "groups": groups, "whole": size})
    else:
        raise Unmoved("takes channels that do not lie side by side")
    if front or back:
        sides = (front, back, *(0, 0) * (dims - 1))
        layers.append({"op": "pad", "sides": sides, "whole": len(inner)})
    return layers


def _zeros(rows: list[int]) -> tuple[int, int]:
    """Return how many zeros come first, and how many last."""
    real = [at for at, row in enumerate(rows) if row >= 0]
    if not real:
        raise Unmoved("leaves zeros alone")
    return real[0], len(rows) - 1 - real[-1]


def _steps(rows: list[int], size: int) -> tuple[int, int, int, int, int]:
    """Return (start, stop, step) of what is taken along a dimension, and zeros put before and after it."""
    front, back = _zeros(rows)
    inner = rows[front : len(rows) - back]
    step = inner[1] - inner[0] if len(inner) > 1 else 1
    if step < 1 or inner != list(range(inner[0], inner[-1] + 1, step)):
        raise Unmoved("takes places that are not evenly spread")
    whole = (size - inner[0] - 1) // step + 1 == len(inner)  # a pool of one point reaches the end by itself
    return inner[0], size if whole else inner[-1] + 1, step, front, back


def _short(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return sizes[:1] if len(set(sizes)) == 1 else sizes
