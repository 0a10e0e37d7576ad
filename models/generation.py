"""Text and label log-probabilities for many requests at once, which join and leave while others run.

Each step runs every layer once over the rows of all requests: one row of each answer that is being written, and a
bounded number of rows of prompts that are being read, so that all share the matrix products. What a request gets is
a function of the request alone, bit for bit: prompts are read in blocks of fixed places (`generation_kv`), attention
runs sequence by sequence, matrix products have enough rows for equal bits (`decoder.MIN_ROWS`), and what the cache of
blocks happens to hold stands in for the very same bits.

Must not know Ray, chat templates or event loops; one thread owns a `Batcher`.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .decoder import LayeredDecoder
from .generation_choice import Detokenise, LabelTree, StopTexts, are_finite, draw, label_scores
from .generation_kv import BlockCache, SequenceKV, block_chain
from .generation_request import Answer, Generated, GenerationRequest, Labelled, Unanswered, check_request
from .generation_step import Path, Piece, run_pieces
from .guided import Guide, Guides

BLOCK = 32
"""Tokens of a prompt block. A prompt shares whole blocks only, so a longer block shares less; a shorter one makes
more calls of attention. Changing it changes the last bits of answers."""


@dataclass
class GenerationCounters:
    """What a batcher was sent and what it ran, since it was made."""

    steps: int = 0
    sent: int = 0
    """Prompt tokens of the requests admitted."""
    cached: int = 0
    """Prompt tokens taken from the cache."""
    computed: int = 0
    """Prompt rows that were run, rows of labels included."""
    decoded: int = 0
    """Rows of answers that were run."""
    evicted: int = 0


class _Sequence:
    """A request that is being worked on."""

    def __init__(
        self, number: int, request: GenerationRequest, path: Path, stops: StopTexts, guide: Guide | None
    ) -> None:
        self.number, self.request, self.path, self.guide = number, request, path, guide
        self.prompt = request.tokens
        self.read = 0  # prompt tokens whose keys and values are there
        self.cached = 0
        self.made: list[int] = []
        self.pending = 0  # the last of these, not run yet: one, and those that a schema forces behind it
        self.chain: list[bytes] = []  # keys of its whole blocks, where blocks are kept
        self.stops = stops
        self.tree = LabelTree.of(request.labels) if request.labels is not None else None
        self.kv: SequenceKV

    @property
    def usable(self) -> int:
        """Blocks that may come from the cache; the last one's states are needed and not its keys alone."""
        return min((len(self.prompt) - 1) // BLOCK, len(self.chain))

    @property
    def longest(self) -> int:
        """Tokens of prompt and answer at most."""
        return len(self.prompt) + (self.request.sampling.max_tokens if self.tree is None else len(self.tree.rows))


@dataclass(frozen=True, eq=False)
class _Planned:
    """A piece of a step and whose it is.

    Attributes:
        sequence: Whose.
        piece: Its rows.
        wanted: How many of its last rows' logits are wanted.
        key: Of the prompt block that the rows are; empty where they are none, or none is kept.
        stop: Prompt tokens up to its end, where it is a block.
    """

    sequence: _Sequence
    piece: Piece
    wanted: int
    key: bytes = b""
    stop: int = 0


class Batcher:
    """Runs generation requests over one decoder, step by step.

    Args:
        decoder: The model.
        detokenise: Turns an answer's token ids into text.
        cache_bytes: For prompt blocks that later requests may share; 0 shares nothing.
        prefill_rows: Prompt rows of one step at most (a block more where labels follow).
        active: Requests worked on at once; more wait.
        kv_bytes: For keys and values of the requests worked on; a lone request may take more.
        guides: Hold answers to their schemas; None: schemas are passed over.
    """

    def __init__(
        self,
        decoder: LayeredDecoder,
        detokenise: Detokenise,
        *,
        cache_bytes: int = 1 << 29,
        prefill_rows: int = 128,
        active: int = 32,
        kv_bytes: int = 4 << 30,
        guides: Guides | None = None,
    ) -> None:
        self.decoder, self.counters = decoder, GenerationCounters()
        self._detokenise, self._prefill_rows, self._active = detokenise, max(prefill_rows, BLOCK), active
        self._cache, self._guides = BlockCache(cache_bytes), guides
        self._row_bytes = 2 * decoder.kv_heads * decoder.head_dim * decoder.dtype.itemsize
        self._kv_room = kv_bytes // self._row_bytes
        self._positions = torch.arange(decoder.context_length, device=decoder.device)
        self._waiting: deque[_Sequence] = deque()
        self._running: OrderedDict[int, _Sequence] = OrderedDict()
        self._numbers = 0

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._waiting or self._running)

    def add(self, request: GenerationRequest) -> int:
        """Take a request in; return the number that its answer will carry.

        Raises:
            SpecError: the request cannot run: a path or token that is not there, a prompt that is empty or, with
                the answer, longer than the model's context, a sampling out of its range, a schema that cannot be
                kept to.
        """
        check_request(request, self.decoder)
        stops, guide = StopTexts(request.sampling.stop, self._detokenise), self._guide(request)
        path = tuple(range(self.decoder.depth)) if request.path is None else request.path
        self._numbers += 1
        self._waiting.append(_Sequence(self._numbers, request, path, stops, guide))
        return self._numbers

    def _guide(self, request: GenerationRequest) -> Guide | None:
        schema = request.sampling.schema
        if not schema or request.labels is not None or self._guides is None:
            return None
        return self._guides(schema)

    def cancel(self, number: int) -> None:
        """Forget a request whose answer nobody waits for; one that is done already is none."""
        self._running.pop(number, None)
        self._waiting = deque(one for one in self._waiting if one.number != number)

    def run(self, requests: Sequence[GenerationRequest]) -> list[Answer]:
        """Return the answers of `requests`, in order; convenient where nothing else is running."""
        numbers = [self.add(request) for request in requests]
        answers: dict[int, Answer] = {}
        while self.busy:
            answers.update(self.step())
        return [answers[number] for number in numbers]

    @torch.inference_mode()
    def step(self) -> dict[int, Answer]:
        """Run every layer once over the rows that are ready; return the answers that ended, by number."""
        self._admit()
        planned = self._plan()
        if not planned:
            return {}
        states = run_pieces(self.decoder, [one.piece for one in planned])
        self._keep_blocks(planned)
        self.counters.steps += 1
        self.counters.evicted = self._cache.evicted
        return self._read(planned, states)

    def _admit(self) -> None:
        """Let waiting requests begin, first come first served, as far as there is room."""
        while self._waiting and len(self._running) < self._active:
            first = self._waiting[0]
            if self._running and self._kv_held() + first.longest * len(first.path) > self._kv_room:
                return
            self._waiting.popleft()
            rows = min(first.longest, len(first.prompt) + 64)
            first.kv = SequenceKV(self.decoder, len(first.path), rows)
            if BLOCK * self._row_bytes * len(first.path) <= self._cache.budget:
                first.chain = block_chain(first.path, first.prompt, BLOCK)
            self._running[first.number] = first
            self.counters.sent += len(first.prompt)

    def _kv_held(self) -> int:
        """Return the rows times path positions that the running sequences may come to hold."""
        return sum(one.longest * len(one.path) for one in self._running.values())

    def _plan(self) -> list[_Planned]:
        """Choose this step's rows: those of each answer, then blocks of prompts, first come first served."""
        planned, left = [], self._prefill_rows
        computing: set[bytes] = set()
        for sequence in self._running.values():
            if sequence.made:
                stop = len(sequence.prompt) + len(sequence.made)
                tokens = sequence.made[-sequence.pending :]
                planned.append(_Planned(sequence, self._rows(sequence, tokens, stop), 1))
                self.counters.decoded += len(tokens)
        for sequence in self._running.values():
            if not sequence.made and left > 0:
                mine = self._plan_prompt(sequence, left, computing)
                planned += mine
                left -= sum(len(one.piece.tokens) for one in mine)
        return planned

    def _plan_prompt(self, sequence: _Sequence, left: int, computing: set[bytes]) -> list[_Planned]:
        """Return the next pieces of a prompt in at most `left` rows; `computing` are this step's blocks.

        A block that another sequence computes in this step is waited for: the next step finds it in the cache.
        """
        self._reuse(sequence)
        planned: list[_Planned] = []
        while sequence.read < len(sequence.prompt):
            start = sequence.read
            stop = min(start + BLOCK, len(sequence.prompt))
            key = sequence.chain[start // BLOCK] if start // BLOCK < len(sequence.chain) else b""
            if stop - start > left or (key in computing and start // BLOCK < sequence.usable):
                break
            if key:
                computing.add(key)
            last = stop == len(sequence.prompt)
            piece = self._rows(sequence, sequence.prompt[start:stop], stop)
            planned.append(_Planned(sequence, piece, int(last), key, stop))
            sequence.read = stop
            left -= stop - start
            if last and sequence.tree is not None and sequence.tree.rows:
                planned.append(_Planned(sequence, self._label_rows(sequence), len(sequence.tree.rows)))
        self.counters.computed += sum(len(one.piece.tokens) for one in planned)
        return planned

    def _reuse(self, sequence: _Sequence) -> None:
        """Take the next blocks from the cache."""
        before = sequence.read
        while sequence.read // BLOCK < sequence.usable:
            block = self._cache.get(sequence.chain[sequence.read // BLOCK])
            if block is None:
                break
            sequence.kv.load_rows(block)
            sequence.read += BLOCK
            sequence.cached += BLOCK
            self.counters.cached += BLOCK
        if sequence.read > before:
            self._cache.touch(sequence.chain[: sequence.read // BLOCK])

    def _rows(self, sequence: _Sequence, tokens: Sequence[int], stop: int) -> Piece:
        """Return the next rows of a sequence, which end at place `stop`."""
        start, mask = stop - len(tokens), None
        if start and stop - start > 1:
            mask = torch.ones(stop - start, stop, dtype=torch.bool, device=self.decoder.device).tril(start)
        return Piece(sequence.path, sequence.kv, tokens, self._positions[start:stop], mask)

    def _label_rows(self, sequence: _Sequence) -> Piece:
        """Return the rows of the labels' tree: each sees the whole prompt and its own beginnings."""
        assert sequence.tree is not None
        rows, length = sequence.tree.rows, len(sequence.prompt)
        seen = torch.cat([torch.ones(len(rows), length, dtype=torch.bool), sequence.tree.seen], dim=1)
        positions = torch.tensor([length + len(row) - 1 for row in rows])
        device = self.decoder.device
        return Piece(sequence.path, sequence.kv, [row[-1] for row in rows], positions.to(device), seen.to(device))

    def _keep_blocks(self, planned: Sequence[_Planned]) -> None:
        """Put the whole blocks that this step computed into the cache."""
        for one in planned:
            if one.key and one.key not in self._cache:
                self._cache.put(one.key, one.sequence.kv.copy_rows(one.stop - BLOCK, one.stop))
                self._cache.touch(one.sequence.chain[: one.stop // BLOCK])

    def _read(self, planned: Sequence[_Planned], states: Sequence[Tensor]) -> dict[int, Answer]:
        """Turn final states into tokens and label scores; return what ended, and let it go."""
        wanted = [(one, state[-one.wanted :]) for one, state in zip(planned, states, strict=True) if one.wanted]
        if not wanted:
            return {}
        logits = self.decoder.head(torch.cat([rows for _, rows in wanted]))
        mine: dict[int, list[Tensor]] = {}
        for (one, _), part in zip(wanted, logits.split([one.wanted for one, _ in wanted]), strict=True):
            mine.setdefault(one.sequence.number, []).append(part)
        answers: dict[int, Answer] = {}
        for number, parts in mine.items():
            answer = self._advance(self._running[number], torch.cat(parts))
            if answer is not None:
                answers[number] = answer
                del self._running[number]
        return answers

    def _advance(self, sequence: _Sequence, logits: Tensor) -> Answer | None:
        """Read a sequence's new logits [rows, vocabulary]; return its answer once it is whole."""
        request = sequence.request
        if not are_finite(logits):
            return Unanswered("NotFinite", f"the logits of token {len(sequence.made)} of the answer are not finite")
        if request.labels is not None and sequence.tree is not None:
            return Labelled(*label_scores(request.labels, sequence.tree, logits), sequence.cached)
        guide, made = sequence.guide, sequence.made
        row = logits[0] if guide is None else guide.masked(logits[0])
        token = draw(row, request.sampling, len(made))
        if token in self.decoder.stop_tokens:
            return Generated(self._detokenise(made), tuple(made), "stop", sequence.cached)
        tokens = [token] if guide is None else [token, *guide.take(token)]
        sequence.pending, spare = len(tokens), request.sampling.max_tokens - len(made) - len(tokens)
        for one in tokens[: len(tokens) + min(spare, 0)]:
            made.append(one)
            text = sequence.stops.cut(made)
            if text is not None:
                return Generated(text, tuple(made), "stop", sequence.cached)
        whole = guide is not None and guide.whole and spare >= 0
        if whole or spare <= 0:
            return Generated(self._detokenise(made), tuple(made), "stop" if whole else "length", sequence.cached)
        return None


__all__ = ["BLOCK", "Batcher", "GenerationCounters"]
