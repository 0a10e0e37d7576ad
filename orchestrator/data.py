"""Files of JSON lines, and multiple-choice questions from them, checked before anything runs.

Must not know models or methods.
"""

import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import DataError

SHIPPED = "plait:questions"
"""Names the questions that come with Plait, wherever it is installed."""

TEMPLATE = "Question: {question}\nAnswer:"
"""The default prompt; options follow it with one leading space."""


class Question(BaseModel):
    """One multiple-choice question."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True, coerce_numbers_to_str=True)

    id: str = Field(min_length=1)
    """Unique within its file."""
    question: str = Field(min_length=1)
    """The text that fills the prompt template."""
    choices: tuple[str, ...] = Field(min_length=2)
    """The options, without leading space."""
    answer: int = Field(ge=0, strict=True)
    """Index of the right choice, from 0."""

    def item(self, template: str = TEMPLATE) -> dict[str, object]:
        """Return what an evaluator sees of it: prompt and options, and never the answer."""
        return {
            "prompt": template.replace("{question}", self.question),
            "options": [f" {choice}" for choice in self.choices],
        }


def text_lines(path: Path, source: str) -> list[str]:
    """Return the lines of a file; `source` is what errors call it.

    Raises:
        DataError: it is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON strings may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(source, type(error).__name__, "a readable UTF-8 file of JSON lines") from error


def json_rows(path: Path, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of each line that is not blank.

    Raises:
        DataError: the file cannot be read, or a line is no JSON object; the error names file and line.
    """
    for number, line in enumerate(text_lines(path, source), start=1):
        if line.strip():
            yield number, _object(line, f"{source}:{number}")


def _object(line: str, where: str) -> dict[str, Any]:
    loads: Callable[[str], Any] = json.loads
    try:
        values = loads(line)
    except json.JSONDecodeError as error:
        raise DataError(where, line[:60], f"a JSON object ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise DataError(where, line[:60], "a JSON object of numbers and depth that can be read") from error
    if not isinstance(values, dict):
        raise DataError(where, line[:60], "a JSON object")
    return values


def load_questions(source: str | Path, limit: int | None = None) -> list[Question]:
    """Read questions, one JSON object a line; blank lines are skipped.

    Args:
        source: A file, or `plait:questions` for those that come with Plait.
        limit: Keep the first so many.

    Raises:
        DataError: the file is missing or empty, or a line is malformed, answers out of range or repeats an id;
            the error names file and line.
    """
    path = Path(str(files("plait") / "data" / "questions.jsonl")) if str(source) == SHIPPED else Path(source)
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text_lines(path, str(source)), start=1):
        if not line.strip():
            continue
        question = _parse(line, f"{source}:{number}")
        if question.id in seen:
            raise DataError(f"{source}:{number}: id", question.id, f"an id not used before (line {seen[question.id]})")
        seen[question.id] = number
        questions.append(question)
    if not questions:
        raise DataError(str(source), "no question", "one or more, each a JSON object on a line")
    return questions[:limit]


def _parse(line: str, where: str) -> Question:
    try:
        question = Question.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise DataError(where, line[:60], f"a JSON object ({error.msg} at column {error.colno})") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "row"
        got = "nothing" if first["type"] == "missing" else first["input"]
        raise DataError(
            f"{where}: {place}",
            got,
            "id, question, choices (two or more) and answer (an index); " + first["msg"].lower(),
        ) from error
    if question.answer >= len(question.choices):
        raise DataError(f"{where}: answer", question.answer, f"an index from 0 to {len(question.choices) - 1}")
    return question
