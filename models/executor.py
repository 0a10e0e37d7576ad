"""Many (item, path) requests at once: a trie of layer prefixes per item, run layer by layer over shared batches.

Two paths of one item that begin alike share their hidden states up to the fork (a trie of layer prefixes, the
analogue of prefix caching over tokens). Rows that need the same layer next, of whatever item and path, run as one
batch. Hidden states stay in a cache bounded in bytes, so that later requests start at their deepest known prefix;
what was evicted is computed again. None of this may change a bit of any answer: tests/models/test_executor.py.

Must not know Ray, ledgers, searches or text.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .attention import KVStore, Span
from .batching import LayerCost
from .decoder import KVMode, LayeredDecoder
from .packing import Packed, pack

Prefix = tuple[int, ...]

DEFAULT_ROWS = 512
"""Rows of a layer call where batches may change bits (a GPU): no measured time may decide there."""

HEAD_ROWS = 128
"""Rows that the head takes at once, about: each makes a row of the vocabulary's width."""


@dataclass(frozen=True, slots=True)
class OptionScores:
    """What one path says of one item: per option, the sum of its tokens' log-probabilities, in nats."""

    sums: tuple[float, ...]


@dataclass
class Counters:
    """What was asked of an executor and what it ran, since it was made."""

    requests: int = 0
    asked_passes: int = 0
    """Layer passes over one item's rows, had every path run alone."""
    passes: int = 0
    """Layer passes over one item's rows that were run; the reuse factor is asked_passes / passes."""
    rows: int = 0
    """Layer-tokens that were run, one row through one layer each."""
    batches: int = 0
    evicted: int = 0


class PrefixCache:
    """Hidden states by (item, layer prefix), the least recently used evicted beyond a byte budget."""

    def __init__(self, budget: int) -> None:
        self.budget, self.bytes, self.evicted = budget, 0, 0
        self._states: OrderedDict[tuple[str, Prefix], Tensor] = OrderedDict()

    def deepest(self, item: str, path: Prefix) -> tuple[int, Tensor | None]:
        """Return the length of the longest known prefix of `path` and its states; (0, None) if there is none."""
        for length in range(len(path), 0, -1):
            state = self._states.get((item, path[:length]))
            if state is not None:
                self._states.move_to_end((item, path[:length]))
                return length, state
        return 0, None

    def put(self, item: str, prefix: Prefix, state: Tensor) -> None:
        """Keep [rows, hidden] states; a single state beyond the whole budget is not kept."""
        size = state.numel() * state.element_size()
        if size > self.budget or (item, prefix) in self._states:
            return
        self._states[item, prefix] = state
        self.bytes += size
        while self.bytes > self.budget:
            _, old = self._states.popitem(last=False)
            self.bytes -= old.numel() * old.element_size()
            self.evicted += 1


@dataclass
class _Item:
    """An item with what all its paths share, on the decoder's device."""

    key: str
    packed: Packed
    positions: Tensor
    tree: Tensor | None
    rotary: dict[str, tuple[Tensor, Tensor]]


@dataclass
class _Node:
    """A layer prefix of one item that some request needs and the cache does not hold."""

    item: _Item
    prefix: Prefix
    above: Tensor | None
    """States that this node's layer reads: set once the parent has run."""
    children: list["_Node"] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    """Requests whose path ends here."""


class PathExecutor:
    """Runs sets of (item, path) requests over one decoder.

    Args:
        decoder: The model.
        cache_bytes: For hidden states kept between calls; as much again may be live within one call.
        trie: Share layer prefixes; off for comparison.
        layer_major: Batch rows that need the same layer; off for comparison.
        batch_rows: Rows of one layer call, about; None lets a cost model fitted on this machine say (batching.py).
    """

    def __init__(
        self,
        decoder: LayeredDecoder,
        *,
        cache_bytes: int = 1 << 30,
        trie: bool = True,
        layer_major: bool = True,
        batch_rows: int | None = None,
    ) -> None:
        self.decoder, self.counters = decoder, Counters()
        self._trie, self._batch_rows = trie, batch_rows
        self._cost: LayerCost | None = None
        self._layer_major = layer_major and decoder.row_independent
        self._cache = PrefixCache(cache_bytes if trie else 0)
        self._live_bytes = max(cache_bytes, 1)
        self._items: OrderedDict[str, _Item] = OrderedDict()

    @torch.inference_mode()
    def score(self, requests: Sequence[tuple[str, Packed, Sequence[int]]]) -> list[OptionScores]:
        """Score the options of each (item key, packed item, path), in the order given.

        Equal item keys mean equal packed items, across calls too.

        Raises:
            SpecError: a path is empty or names a layer that is not there.
        """
        for _, _, path in requests:
            self.decoder.check(path)
        finals: dict[int, Tensor] = {}
        scores: list[OptionScores | None] = [None] * len(requests)
        wave: list[int] = []
        size = 0
        for index, (_, packed, _) in enumerate(requests):
            state = packed.rows * self.decoder.hidden_size * self.decoder.dtype.itemsize
            if wave and size + state > self._live_bytes:
                self._run_wave(requests, wave, finals)
                self._read(requests, finals, scores)
                wave, size = [], 0
            wave.append(index)
            size += state
        self._run_wave(requests, wave, finals)
        self._read(requests, finals, scores)
        self.counters.evicted = self._cache.evicted
        return [score for score in scores if score is not None]

    def _run_wave(
        self, requests: Sequence[tuple[str, Packed, Sequence[int]]], wave: Sequence[int], finals: dict[int, Tensor]
    ) -> None:
        """Run the requests named by `wave`; leave the final states [predicting rows, hidden] in `finals`."""
        ready: dict[int, list[_Node]] = defaultdict(list)
        for node in self._plan(requests, wave, finals):
            ready[node.prefix[-1]].append(node)
        while ready:
            # The lowest layer first: paths rise but for local loops, so one sweep up serves all of them, and a
            # loop goes back and catches up before the others move on.
            layer = min(ready)
            nodes = ready.pop(layer)
            for batch in self._batches(nodes):
                self._run_batch(layer, batch, finals)
                for node in batch:
                    for child in node.children:
                        ready[child.prefix[-1]].append(child)

    def _plan(
        self, requests: Sequence[tuple[str, Packed, Sequence[int]]], wave: Sequence[int], finals: dict[int, Tensor]
    ) -> list[_Node]:
        """Return the nodes that can run at once, each with the nodes that follow from it."""
        known: dict[tuple[str, Prefix], _Node] = {}
        roots = []
        for index in wave:
            key, packed, path_given = requests[index]
            path, item = tuple(path_given), self._item(key, packed)
            self.counters.requests += 1
            self.counters.asked_passes += len(path)
            name = key if self._trie else f"{key}\x1f{index}"
            start, state = self._cache.deepest(name, path)
            if state is not None and start == len(path):
                finals[index] = _predicting(packed, state)
                continue
            parent: _Node | None = None
            for length in range(start + 1, len(path) + 1):
                node = known.get((name, path[:length]))
                if node is None:
                    node = known[name, path[:length]] = _Node(item, path[:length], None)
                    if parent is not None:
                        parent.children.append(node)
                    else:
                        node.above = state if state is not None else self.decoder.embed(packed.tokens)
                        roots.append(node)
                parent = node
            assert parent is not None
            parent.requests.append(index)
        return roots

    def _batches(self, nodes: list[_Node]) -> list[list[_Node]]:
        """Cut the nodes that need one layer into batches."""
        if not self._layer_major:
            return [[node] for node in nodes]
        return [nodes[cut] for cut in self.cost.cut([node.item.packed.rows for node in nodes])]

    @property
    def cost(self) -> LayerCost:
        """What a layer call costs here; measured when first needed."""
        if self._cost is None:
            self._cost = self._fixed_cost() or LayerCost.measure(self.decoder)
        return self._cost

    def _fixed_cost(self) -> LayerCost | None:
        """Return a cost that leads to the batches asked for; to the same everywhere where they may change bits."""
        if self._batch_rows is None and self.decoder.batch_invariant:
            return None
        return LayerCost.of_rows(self._batch_rows or DEFAULT_ROWS)

    def _run_batch(self, layer: int, nodes: Sequence[_Node], finals: dict[int, Tensor]) -> None:
        """Run one layer over the rows of `nodes`; hand the states to children, requests and the cache."""
        kind = self.decoder.kind(layer)
        spans, start = [], 0
        for node in nodes:
            stop = start + node.item.packed.rows
            spans.append(Span(start, stop, node.item.positions, node.item.tree))
            start = stop
        above = torch.cat([node.above for node in nodes if node.above is not None])
        cos, sin = (torch.cat([node.item.rotary[kind][part] for node in nodes]) for part in (0, 1))
        out = self.decoder.run_layer(layer, above, (cos, sin), spans)
        for node, span in zip(nodes, spans, strict=True):
            # A copy: a view would keep the whole batch alive behind the cache's accounts.
            state = out[span.start : span.stop].clone()
            node.above = None
            for child in node.children:
                child.above = state
            for index in node.requests:
                finals[index] = _predicting(node.item.packed, state)
            if node.children:
                self._cache.put(node.item.key, node.prefix, state)
        self.counters.batches += 1
        self.counters.passes += len(nodes)
        self.counters.rows += start

    def _read(
        self,
        requests: Sequence[tuple[str, Packed, Sequence[int]]],
        finals: dict[int, Tensor],
        scores: list[OptionScores | None],
    ) -> None:
        """Turn final states into scores, the head over the rows of many requests at once; empties `finals`."""
        batch: list[int] = []
        rows = 0
        for index in list(finals):
            batch.append(index)
            rows += finals[index].shape[0]
            if rows >= HEAD_ROWS or len(batch) == len(finals):
                states = torch.cat([finals.pop(done) for done in batch])
                for done, score in zip(batch, self._options(requests, batch, states), strict=True):
                    scores[done] = score
                batch, rows = [], 0

    def _options(
        self, requests: Sequence[tuple[str, Packed, Sequence[int]]], batch: Sequence[int], states: Tensor
    ) -> list[OptionScores]:
        """Return the scores of `batch`, whose predicting rows [rows, hidden] lie end to end in `states`."""
        # One fused kernel: logsumexp and a subtraction take twice as long, most of it in temporaries.
        logits = self.decoder.head(states).float().log_softmax(dim=-1)
        scores, start = [], 0
        for index in batch:
            packed = requests[index][1]
            order = {row: place for place, row in enumerate(_predicting_rows(packed))}
            picks = [
                (start + order[row], token)
                for sources, targets in zip(packed.sources, packed.targets, strict=True)
                for row, token in zip(sources, targets, strict=True)
            ]
            places, tokens = torch.tensor(picks, device=logits.device).T
            parts = logits[places, tokens].split([len(option) for option in packed.targets])
            # Summed in float64: a sum over tokens then does not depend on how a kernel groups its terms.
            scores.append(OptionScores(tuple(float(part.double().sum()) for part in parts)))
            start += len(order)
        return scores

    def _item(self, key: str, packed: Packed) -> _Item:
        """Return what all paths of the item share; kept for the items used last."""
        item = self._items.get(key)
        if item is None:
            device = self.decoder.device
            tree = None if packed.tree is None else packed.tree.to(device)
            positions = packed.positions.to(device)
            item = self._items[key] = _Item(key, packed, positions, tree, self.decoder.rotary(positions))
            if len(self._items) > 256:
                self._items.popitem(last=False)
        return item


@torch.inference_mode()
def score_alone(decoder: LayeredDecoder, packed: Packed, path: Sequence[int], kv: KVMode = "slot") -> OptionScores:
    """Score one path in canonical mode: every option its own plain sequence, nothing shared, nothing batched.

    The reference for re-verification, and the only mode that knows `kv="shared"` (the released code's semantics).
    """
    sums = []
    prompt = packed.tokens[: min(sources[0] for sources in packed.sources) + 1].tolist()
    for option in packed.targets:
        row = pack(prompt, [option], [0])
        hidden = decoder.forward(row.tokens, path, kv=KVStore(shared=True) if kv == "shared" else None)
        logits = decoder.head(hidden[len(prompt) - 1 :]).float().log_softmax(dim=-1)
        picked = logits[torch.arange(len(option)), torch.tensor(option)]
        sums.append(float(picked.double().sum()))
    return OptionScores(tuple(sums))


def _predicting_rows(packed: Packed) -> list[int]:
    """Return the rows whose outputs predict some option's token, each once, in order."""
    return sorted({row for sources in packed.sources for row in sources})


def _predicting(packed: Packed, state: Tensor) -> Tensor:
    """Return [predicting rows, hidden] of the item's final states."""
    return state[_predicting_rows(packed)]


__all__ = ["Counters", "OptionScores", "PathExecutor", "PrefixCache", "score_alone"]
