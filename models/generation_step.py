"""The rows of one generation step through the layers, those of many sequences and paths together.

Must not know requests, sampling or caches of blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .attention import Span
from .decoder import LayeredDecoder
from .generation_kv import SequenceKV

Path = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one sequence, run in one step.

    Attributes:
        path: Layers that they run through.
        kv: Keys and values of the sequence, which these rows extend.
        tokens: Their token ids.
        positions: [rows], their positions in the sequence.
        mask: [rows, keys] of bool where several rows follow earlier ones; None where causal order says it all.
    """

    path: Path
    kv: SequenceKV
    tokens: Sequence[int]
    positions: Tensor
    mask: Tensor | None = None


class _Lane:
    """All pieces of one path: their states, and how far along the path they are."""

    def __init__(self, decoder: LayeredDecoder, path: Path, pieces: Sequence[Piece]) -> None:
        self.path, self.at = path, 0
        self.hidden = decoder.embed(torch.tensor([token for piece in pieces for token in piece.tokens]))
        self.rotary = decoder.rotary(torch.cat([piece.positions for piece in pieces]))
        self.kvs = list({id(piece.kv): piece.kv for piece in pieces}.values())
        self.spans, start = [], 0
        for piece in pieces:
            stop = start + len(piece.tokens)
            self.spans.append(Span(start, stop, piece.positions, piece.mask, piece.kv))
            start = stop
        self.rows = start


def run_pieces(decoder: LayeredDecoder, pieces: Sequence[Piece]) -> list[Tensor]:
    """Return the final hidden states of each piece, [rows, hidden], before norm and head.

    Pieces of one sequence run as if one after the other. Lanes whose next layer is the same run it together; the
    lowest layer goes first, so that a path that loops or lags catches up.
    """
    groups: dict[Path, list[int]] = {}
    for index, piece in enumerate(pieces):
        groups.setdefault(piece.path, []).append(index)
    lanes = [_Lane(decoder, path, [pieces[index] for index in group]) for path, group in groups.items()]
    open_lanes = list(lanes)
    while open_lanes:
        layer = min(lane.path[lane.at] for lane in open_lanes)
        _run_layer(decoder, layer, [lane for lane in open_lanes if lane.path[lane.at] == layer])
        open_lanes = [lane for lane in open_lanes if lane.at < len(lane.path)]
    finals: dict[int, Tensor] = {}
    for lane, group in zip(lanes, groups.values(), strict=True):
        for index, span in zip(group, lane.spans, strict=True):
            finals[index] = lane.hidden[span.start : span.stop]
    return [finals[index] for index in range(len(pieces))]


def _run_layer(decoder: LayeredDecoder, layer: int, lanes: Sequence[_Lane]) -> None:
    """Run one layer over the rows of `lanes`, each at its own place of its own path."""
    kind, spans, start = decoder.kind(layer), [], 0
    for lane in lanes:
        for kv in lane.kvs:
            kv.slot = lane.at
        shifted = lane.spans
        if start:
            shifted = [replace(span, start=span.start + start, stop=span.stop + start) for span in lane.spans]
        spans += shifted
        start += lane.rows
    hidden = _joined([lane.hidden for lane in lanes])
    cos, sin = (_joined([lane.rotary[kind][part] for lane in lanes]) for part in (0, 1))
    out = decoder.run_layer(layer, hidden, (cos, sin), spans)
    for lane, rows in zip(lanes, out.split([lane.rows for lane in lanes]), strict=True):
        lane.hidden = rows
        lane.at += 1


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


__all__ = ["Path", "Piece", "run_pieces"]
