"""Text for short distillation: read, split by passage, cut into windows of tokens. Knows no search."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ...errors import DataError
from ...models.cut_distill import windows
from ...records import JSON, generator
from ...user_files import file_text, json_object
from .compress_decoder_spec import CompressDecoderSpec

SHARES = {"test": 0.2, "validation": 0.1}
"""Parts of each source's passages; the rest is to fit. Split by passage, so that no window straddles two parts."""

Kind = Literal["data", "other"]


class Passage(BaseModel):
    """A piece of text, whole."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str
    source: str
    kind: Kind = "data"


def load_passages(sources: Sequence[str], kind: Kind) -> list[Passage]:
    """Read passages: paragraphs of a .txt file, or one JSON object a line; equal texts count once.

    Args:
        sources: FILE or FILE#FIELD. A field may hold a text or a list of texts.
        kind: What they are for; lines that say so themselves, as those of a run folder do, keep it.

    Raises:
        DataError: a file cannot be read or holds no text where it should; the error names file and line.
    """
    found: dict[str, Passage] = {}
    for source in sources:
        place, _, name = source.partition("#")
        for passage in _read(Path(place), name, kind):
            found.setdefault(passage.text, passage)
    return list(found.values())


def _read(path: Path, name: str, kind: Kind) -> Iterator[Passage]:
    whole = file_text(path, str(path), "a readable UTF-8 file of text or of JSON lines")
    if path.suffix != ".jsonl":
        pieces = [piece.strip() for piece in whole.split("\n\n")]
        yield from (Passage(text=piece, source=path.name, kind=kind) for piece in pieces if piece)
        return
    for number, line in enumerate(whole.split("\n"), start=1):
        if line.strip():
            yield _passage(line, f"{path}:{number}", name, Passage(text="", source=path.name, kind=kind))


def _passage(line: str, where: str, name: str, like: Passage) -> Passage:
    row = json_object(line, where)
    field = name or next((known for known in ("text", "question") if known in row), "text")
    value = row.get(field)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        text: object = " ".join(value)
    else:
        text = value
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: {field}", value, "a text, or FILE#FIELD that names the field")
    own = {key: row[key] for key in ("source", "kind") if key in row} if "kind" in row else {}
    return Passage.model_validate({**like.model_dump(), **own, "text": text.strip()})


def parts_of(passages: Sequence[Passage], seed: int) -> dict[str, list[str]]:
    """Return the texts of `fit`, `validation`, `test` and `other`, shuffled by seed, the sources taking turns."""
    parts: dict[str, list[list[str]]] = {"fit": [], "validation": [], "test": [], "other": []}
    for kind, source in dict.fromkeys((passage.kind, passage.source) for passage in passages):
        texts = [passage.text for passage in passages if (passage.kind, passage.source) == (kind, source)]
        generator(seed, "passages", kind, source).shuffle(texts)
        if kind == "other":
            parts["other"].append(texts)
            continue
        start = 0
        for name, share in SHARES.items():
            stop = start + round(share * len(texts))
            parts[name].append(texts[start:stop])
            start = stop
        parts["fit"].append(texts[start:])
    return {name: _in_turn(lists) for name, lists in parts.items()}


def _in_turn(lists: Sequence[Sequence[str]]) -> list[str]:
    return [text for texts in zip_longest(*lists) for text in texts if text is not None]


def tokens_of(passages: Sequence[Passage], tokenizer: Any, spec: CompressDecoderSpec) -> dict[str, Any]:
    """Return token ids [sequences, length] for each part that there is text for.

    Raises:
        DataError: a part has too little text for the sequences that the spec asks for.
    """
    sizes = {"fit": spec.fit, "validation": spec.validation, "test": spec.test, "other": spec.test}
    parts = parts_of(passages, spec.seed)
    if not any(passage.kind == "other" for passage in passages):
        del parts["other"]
    return {name: windows(tokenizer, texts, spec.length, sizes[name], name) for name, texts in parts.items()}


def resolved_text(passages: Sequence[Passage]) -> dict[str, JSON]:
    """Return how many passages of which source there are."""
    counts: dict[str, int] = {}
    for passage in passages:
        name = passage.source if passage.kind == "data" else f"{passage.source} (other)"
        counts[name] = counts.get(name, 0) + 1
    return counts
