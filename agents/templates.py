"""Prompt templates in files that anybody may edit: read once, sent with whoever uses them. Knows no prompt."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from ..errors import SpecError


@dataclass(frozen=True)
class Templates:
    """The templates of a folder; a file that it lacks is Plait's own.

    A subclass says which files there are, in `_texts`.

    Attributes:
        folder: Files that replace Plait's own; None for none.

    Raises:
        SpecError: the folder does not exist, or a template cannot be read.
    """

    folder: Path | None
    _own: Path

    def __post_init__(self) -> None:
        if self.folder is not None and not self.folder.is_dir():
            raise SpecError("prompts", str(self.folder), "a folder of prompt files")

    def __getstate__(self) -> dict[str, Any]:
        """Send the texts themselves: a folder may not be there, or not the same, where they are used."""
        return {"folder": self.folder, "_own": self._own, "_texts": self._texts}

    @cached_property
    def _texts(self) -> dict[str, str]:
        """The files, read once: what a hash covers is what is sent, whoever edits them meanwhile."""
        raise NotImplementedError

    @cached_property
    def _templates(self) -> Environment:
        # Not a web page: what is sent is text, and what could break out of its place is fenced.
        return Environment(loader=DictLoader(self._texts), undefined=StrictUndefined, autoescape=False)

    def text(self, name: str) -> str:
        """Return a file as it is.

        Raises:
            SpecError: there is none of that name, or it cannot be read.
        """
        for folder in (self.folder, self._own):
            if folder is not None and (folder / name).is_file():
                try:
                    return (folder / name).read_text(encoding="utf-8")
                except (OSError, UnicodeDecodeError) as error:
                    raise SpecError(f"prompts: {name}", type(error).__name__, "a readable UTF-8 file") from error
        raise SpecError("prompts", name, f"a file in {self._own}")
