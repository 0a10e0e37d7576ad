"""Option scores as an evaluator: requests with text in, raw log-probabilities out.

One class serves in process and inside a model host, so that both mean the same. What it returns is raw (sums of
log-probabilities, token and byte counts): which option that picks, and whether it is right, is decided where the
answers are known. Must not know Ray, ledgers or searches.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..candidates import LayerPath
from ..errors import PlaitError, SpecError
from ..records import JSON, Failed, Outcome, Request, Scored, digest
from .decoder import Dtype, KVMode, LayeredDecoder
from .executor import PathExecutor, score_alone
from .packing import Bos, Packed, Packer

Mode = Literal["batched", "alone"]


@dataclass(frozen=True)
class ScorerSpec:
    """What an option scorer's values depend on, beside item and path.

    Attributes:
        model: Hash of the model: config and weights, and not its tokenizer's files.
        dtype: Numbers that the layers compute in.
        device: `cpu` or `cuda`: other kernels, other last bits.
        bos: Whether a beginning-of-sequence token opens the prompt.
        mode: `batched` (shared prefixes, packed options) or `alone` (canonical: nothing shared).
        kv: `slot`, or `shared` for the released code's semantics (only `alone`).
        files: `sources.text_hash` of the model's folder: equal weights may come with other tokens, and other scores.
    """

    model: str
    dtype: Dtype = "float32"
    device: str = "cpu"
    bos: Bos = "auto"
    mode: Mode = "batched"
    kv: KVMode = "slot"
    files: str = ""


class OptionScorer:
    """Evaluates layer paths on questions: `candidate` is a path's text, `item` {"prompt", "options"}."""

    name: ClassVar[str] = "option-scores"
    version: ClassVar[int] = 2
    """Raise it whenever a change of this file, the executor, the decoder or packing may change a value.

    2: prompt and options are tokenised together, without what the tokenizer appends; numbers that are not finite fail.
    """

    def __init__(self, decoder: LayeredDecoder, tokenizer: Any, spec: ScorerSpec, cache_bytes: int = 1 << 30) -> None:
        self._decoder, self._spec = decoder, spec
        self._packer = Packer(tokenizer, decoder.context_length, spec.bos)
        self._executor = PathExecutor(decoder, cache_bytes=cache_bytes)
        self._packed: OrderedDict[str, Packed] = OrderedDict()

    @classmethod
    def load(cls, folder: Path | str, spec: ScorerSpec, cache_bytes: int = 1 << 30) -> "OptionScorer":
        """Load model and tokenizer from a folder of config.json, safetensors and tokenizer files."""
        from .loading import load_tokenizer

        decoder = LayeredDecoder.load(folder, spec.dtype, spec.device)
        return cls(decoder, load_tokenizer(folder, decoder.vocabulary), spec, cache_bytes)

    @property
    def spec(self) -> JSON:
        """The part of the ledger key that this evaluator answers for."""
        return asdict(self._spec)

    @property
    def decoder(self) -> LayeredDecoder:
        """The model."""
        return self._decoder

    def evaluate(self, requests: Sequence[Request], spec: ScorerSpec | None = None) -> list[Outcome]:
        """Return one outcome a request, in order.

        `Scored.values` are `sums` (nats), `tokens` and `bytes`, each a list over options, and `prompt_tokens`.
        `Scored.cost` are the request's shares of what the batch took: `seconds`, layer `passes` run and asked,
        and `layer_tokens` run. A request that cannot be evaluated is `Failed("BadInput")`, one whose log-probabilities
        are not all finite (a broken weight, an overflow) is `Failed("NotFinite")`, and the rest go on.

        Args:
            requests: Paths and questions; those of one question are best sent together.
            spec: Another `mode` and `kv` than the scorer's own, over the same model.
        """
        started, before = time.perf_counter(), asdict(self._executor.counters)
        outcomes: list[Outcome | None] = [None] * len(requests)
        work: list[tuple[int, str, Packed, tuple[int, ...]]] = []
        for index, request in enumerate(requests):
            try:
                path = LayerPath.parse(request.candidate)
                self._decoder.check(path.layers)
                key, packed = self._pack(request.item)
                work.append((index, key, packed, path.layers))
            except PlaitError as error:
                outcomes[index] = Failed("BadInput", str(error))
        scores = self._score(work, spec or self._spec)
        after = asdict(self._executor.counters)
        took = {name: after[name] - before[name] for name in ("passes", "rows")}
        took["seconds"] = time.perf_counter() - started
        asked = sum(len(path) * packed.rows for _, _, packed, path in work)
        for (index, _, packed, layers), sums in zip(work, scores, strict=True):
            share = len(layers) * packed.rows / asked
            cost = _cost(took, share, len(layers))
            broken = [(at, total) for at, total in enumerate(sums) if not math.isfinite(total)]
            if broken:
                at, total = broken[0]
                detail = f"path {requests[index].candidate}: the log-probability of option {at} is {total}"
                outcomes[index] = Failed("NotFinite", detail, cost=cost)
            else:
                outcomes[index] = Scored(_values(packed, sums), cost)
        return [outcome for outcome in outcomes if outcome is not None]

    def _score(
        self, work: Sequence[tuple[int, str, Packed, tuple[int, ...]]], spec: ScorerSpec
    ) -> list[tuple[float, ...]]:
        if spec.mode == "alone":
            return [score_alone(self._decoder, packed, path, spec.kv).sums for _, _, packed, path in work]
        return [score.sums for score in self._executor.score([parts[1:] for parts in work])]

    def _pack(self, item: Mapping[str, JSON]) -> tuple[str, Packed]:
        """Return the item's key and packed form, kept for the items used last."""
        key = digest(item)
        if key not in self._packed:
            packed = self._packer.pack(item["prompt"], item["options"])
            _check_different(packed, item["options"])
            self._packed[key] = packed
            if len(self._packed) > 256:
                self._packed.popitem(last=False)
        self._packed.move_to_end(key)
        return key, self._packed[key]


def _check_different(packed: Packed, options: Sequence[str]) -> None:
    """Refuse options that are the same tokens to this model: whichever came first would win."""
    first: dict[tuple[int, ...], int] = {}
    for index, target in enumerate(packed.targets):
        before = first.setdefault(target, index)
        if before != index:
            got = f"{options[index]!r} and {options[before]!r}"
            raise SpecError(f"item: options {before} and {index}", got, "options that differ in tokens of this model")


def _values(packed: Packed, sums: Sequence[float]) -> dict[str, JSON]:
    prompt_tokens = min(sources[0] for sources in packed.sources) + 1
    tokens = [len(option) for option in packed.targets]
    return {"sums": list(sums), "tokens": tokens, "bytes": list(packed.sizes), "prompt_tokens": prompt_tokens}


def _cost(took: Mapping[str, float], share: float, asked: int) -> dict[str, float]:
    return {
        "seconds": took["seconds"] * share,
        "passes": took["passes"] * share,
        "asked_passes": float(asked),
        "layer_tokens": took["rows"] * share,
    }
