"""How long a network takes on this device: timed whole, or foretold from a table of its layers.

Times are medians in milliseconds, in evaluation mode, of the processor time of torch's one thread: the elapsed time
where nothing else runs, and hardly disturbed where something does. A table is measured once, on the layers of one
network at several widths, and answers the same ever after: searches replay.
"""

import json
import math
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch

from ..architecture_groups import channel_groups, shrunk
from ..architectures import ARRANGED, Architecture, Layer, Shape
from ..errors import SpecError, StoreError
from .distill import one_thread
from .network import Network, build

Size = tuple[str, Shape, Shape, int]
"""Kind of a layer, shapes of its input and output, batch: layers of one size take one time."""

RUNS = 50
"""Timed runs of a whole network."""
BATCHES = (1, 64)
FRACTIONS = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Widths at which a layer is timed."""
SECONDS = 0.1
"""Spent on one entry of a table at most, about; three runs at least."""


def milliseconds(network: Network, batch: int = 1) -> float:
    """Return the median time of one forward pass, over 50 runs after warming up."""
    return _median(network, batch, RUNS, math.inf)


@dataclass(frozen=True, slots=True)
class Entry:
    """One layer's time.

    Attributes:
        op: Its operation.
        kind: What it is apart from sizes: operation, kernel, stride, padding, groups.
        given: Shape of its (first) input.
        made: Shape of its output.
        work: What its time grows with: multiply-accumulates, or values read and made where it has none.
        batch: Examples a pass.
        ms: Median time, what any pass takes subtracted.
    """

    op: str
    kind: str
    given: Shape
    made: Shape
    work: int
    batch: int
    ms: float

    @property
    def size(self) -> Size:
        """What two entries of one time have in common."""
        return self.kind, self.given, self.made, self.batch


@dataclass
class LatencyTable:
    """Times of layers on one device.

    Attributes:
        entries: What was measured.
        overhead: What a pass takes beside its layers, in milliseconds, by batch.
        scale: How many times longer layers take together than alone, where caches are warm, by batch.
        device: Whose times they are.
    """

    entries: list[Entry]
    overhead: dict[int, float]
    scale: dict[int, float]
    device: str = ""
    _known: dict[Size, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._known = {entry.size: entry.ms for entry in self.entries}

    @classmethod
    def measured(
        cls, arch: Architecture, batches: Sequence[int] = BATCHES, fractions: Sequence[float] = FRACTIONS
    ) -> Self:
        """Time each different layer of `arch` with its channels at each of `fractions`, and the network whole.

        Takes about 0.1 s an entry at most; there are (different layers) x (fractions) x (batches).
        """
        plain = build(Architecture(input=(1,), layers=(Layer(op="dropout"),)), 0)
        overhead = {batch: _median(plain, batch, RUNS, SECONDS) for batch in batches}
        entries: dict[Size, Entry] = {}
        for alone in _alone(arch, fractions):
            for batch in batches:
                entry = _sized(alone, 0, batch)
                if entry.size not in entries:
                    ms = max(_median(build(alone, 0), batch, RUNS, SECONDS) - overhead[batch], 0.0)
                    entries[entry.size] = replace(entry, ms=ms)
        table = cls(list(entries.values()), overhead, dict.fromkeys(batches, 1.0), _device())
        table.scale |= {batch: _together(table, arch, batch) for batch in batches}
        return table

    def predict(self, arch: Architecture, batch: int = 1) -> float:
        """Return the sum of the layers' times, in milliseconds.

        A layer that was not timed is placed between those of its kind that were, by its work: on maps of its size where
        two of them were timed, else on any; an operation never timed is taken for one that makes as many values.

        Raises:
            SpecError: the table has no times of this batch.
        """
        if batch not in self.overhead:
            raise SpecError("latency table: batch", batch, f"one of {sorted(self.overhead)}")
        return self.overhead[batch] + self.scale[batch] * self._alone(arch, batch)

    def _alone(self, arch: Architecture, batch: int) -> float:
        return sum(self._layer(_sized(arch, at, batch)) for at in range(len(arch.layers)))

    def _layer(self, wanted: Entry) -> float:
        if wanted.size in self._known:
            return self._known[wanted.size]
        same = [entry for entry in self.entries if entry.batch == wanted.batch]
        kind = [entry for entry in same if entry.kind == wanted.kind]
        maps = [e for e in kind if (e.given[1:], e.made[1:]) == (wanted.given[1:], wanted.made[1:])]
        op = [entry for entry in same if entry.op == wanted.op]
        for near in (maps, kind, op):
            points = _points(near)
            if len(points) > 1:
                return _interpolated(points, wanted.work)
        return _interpolated(_points(op or same), wanted.work)

    def save(self, path: Path | str) -> None:
        """Write the table as JSON.

        Raises:
            StoreError: the file cannot be written.
        """
        text = json.dumps(
            {
                "device": self.device,
                "overhead": self.overhead,
                "scale": self.scale,
                "entries": [*map(astuple, self.entries)],
            }
        )
        draft = Path(f"{path}.{os.getpid()}")
        try:
            draft.write_text(text)
            draft.replace(path)
        except OSError as error:
            raise StoreError(str(path), str(error)) from error

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Return the table that `save` wrote.

        Raises:
            SpecError: the file is none, or is damaged.
        """
        try:
            told = json.loads(Path(path).read_text())
            rows = [
                Entry(op, kind, tuple(given), tuple(made), *rest) for op, kind, given, made, *rest in told["entries"]
            ]
            overhead, scale = ({int(batch): ms for batch, ms in told[name].items()} for name in ("overhead", "scale"))
            return cls(rows, overhead, scale, told["device"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SpecError(str(path), f"{type(error).__name__}: {error}", "a latency table") from error


def _alone(arch: Architecture, fractions: Sequence[float]) -> Iterator[Architecture]:
    """Yield each layer as a network of its own, at each fraction of its channels."""
    for at, layer in enumerate(arch.layers):
        given, made = arch.arriving(at), arch.shapes[at]
        if layer.op in ("add", "mul"):
            given = made  # the whole maps; a gate's other side is small
        if layer.op == "cat":
            given = (max(made[0] // len(layer.inputs), 1), *made[1:])
        for fraction in (1.0,) if layer.op in ARRANGED else fractions:
            step = layer.groups or 1
            width = max(round(given[0] * fraction / step), 1) * step if at or fraction == 1 else given[0]
            update: dict[str, object] = {"inputs": (-1,) * len(layer.inputs) if len(layer.inputs) > 1 else ()}
            if layer.out is not None:
                update["out"] = max(round(layer.out * fraction / step), 1) * step
            yield Architecture(input=(width, *given[1:]), layers=(layer.model_copy(update=update),))


def _sized(arch: Architecture, at: int, batch: int) -> Entry:
    """Return what is to be known of layer `at`, its time left open."""
    layer, given, made = arch.layers[at], arch.arriving(at), arch.shapes[at]
    kind: str = layer.op
    if layer.op in ("conv", "max_pool", "avg_pool"):
        kernel, stride, padding = layer.spread(len(given) - 1)
        groups = "each" if layer.groups in (0, given[0]) and given[0] > 1 else str(layer.groups or 1)
        kind = f"{layer.op} {kernel} {stride} {padding} {groups}"
    elif layer.op == "act":
        kind = f"act {layer.act}"
    work = arch.layer_macs[at] or math.prod(given) + math.prod(made)
    return Entry(layer.op, kind, given, made, work, batch, math.nan)


def _together(table: LatencyTable, arch: Architecture, batch: int) -> float:
    """Return how many times longer than foretold the network takes, and one of half its widths, on average."""
    ratios = []
    for net in (arch, shrunk(arch, [max(group.width // 2, 1) for group in channel_groups(arch)])):
        whole = _median(build(net, 0), batch, RUNS, 20 * SECONDS) - table.overhead[batch]
        ratios.append(whole / table._alone(net, batch))
    return statistics.geometric_mean(ratios)


def _points(entries: Iterable[Entry]) -> list[tuple[int, float]]:
    """Return (work, ms) of entries in order of work, one for each work."""
    found: dict[int, list[float]] = {}
    for entry in entries:
        found.setdefault(entry.work, []).append(entry.ms)
    return sorted((work, statistics.mean(times)) for work, times in found.items())


def _interpolated(points: Sequence[tuple[int, float]], work: int) -> float:
    """Return the time between the two nearest points; beyond the largest, in proportion to it."""
    works, times = zip(*points, strict=True)
    if work > works[-1]:
        return float(times[-1] * work / works[-1])
    return float(np.interp(work, works, times))


def _median(network: Network, batch: int, runs: int, seconds: float) -> float:
    """Return the median time of up to `runs` passes, in milliseconds; fewer, but three, once `seconds` are over."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *network.arch.input, generator=draw)
    training, times = network.training, list[float]()
    network.eval()
    with one_thread(), torch.inference_mode():
        for _ in range(3):
            network(x)
        end = time.perf_counter() + seconds
        while len(times) < runs and (len(times) < 3 or time.perf_counter() < end):
            start = time.thread_time()
            network(x)
            times.append(time.thread_time() - start)
    network.train(training)
    return 1000 * statistics.median(times)


def _device() -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{os.uname().machine}, {capability}, torch {torch.__version__}"
