"""Multiple-choice questions from files of JSON lines, checked before anything runs.

Must not know models or methods.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import DataError
from ..user_files import json_object, refuse_not_finite, text_lines

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

    @field_validator("id", "question", "choices", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        refuse_missing(value)
        return value

    @field_validator("choices")
    @classmethod
    def _different(cls, choices: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse choices that say the same: whichever came first would win."""
        first: dict[str, int] = {}
        for index, choice in enumerate(choices):
            if not choice.strip():
                raise ValueError(f"choice {index} is blank")
            before = first.setdefault(unicodedata.normalize("NFC", choice.strip()), index)
            if before != index:
                raise ValueError(f"choices that differ: {before} and {index} are the same")
        return choices

    @field_validator("id", "question", "choices")
    @classmethod
    def _is_text(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """Refuse half a surrogate pair, which JSON can spell and no tokenizer can read."""
        try:
            "".join(value).encode()
        except UnicodeEncodeError as error:
            raise ValueError("half a surrogate pair is no character") from error
        return value

    def item(self, template: str = TEMPLATE) -> dict[str, object]:
        """Return what an evaluator sees of it: prompt and options, and never the answer."""
        return {
            "prompt": template.replace("{question}", self.question),
            "options": [f" {choice}" for choice in self.choices],
        }


@dataclass(frozen=True)
class Row:
    """A line of a file of questions: the question, or the `problem` that keeps it out."""

    line: int
    question: Question | None = None
    problem: DataError | None = None


def load_questions(source: str | Path, limit: int | None = None) -> list[Question]:
    """Read questions, one JSON object a line; blank lines are skipped.

    Args:
        source: A file, or `plait:questions` for those that come with Plait.
        limit: Keep the first so many.

    Raises:
        DataError: the file is missing or empty, or a line is malformed, answers out of range or repeats an id;
            the error names file and line.
    """
    questions: list[Question] = []
    for row in question_rows(source):
        if row.problem is not None:
            raise row.problem
        if row.question is not None:
            questions.append(row.question)
    return questions[:limit]


def question_rows(source: str | Path) -> list[Row]:
    """Return a row for every line of a file of questions that is not blank, good or bad.

    Raises:
        DataError: the file is missing or holds no line.
    """
    path = Path(str(files("plait") / "data" / "questions.jsonl")) if str(source) == SHIPPED else Path(source)
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text_lines(path, str(source)), start=1):
        if not line.strip():
            continue
        try:
            question = _question(json_object(line, f"{source}:{number}"), f"{source}:{number}")
            _check_new(question, seen, f"{source}:{number}", "line")
        except DataError as error:
            rows.append(Row(number, problem=error))
        else:
            seen[question.id] = number
            rows.append(Row(number, question))
    if not rows:
        raise DataError(str(source), "no question", "one or more, each a JSON object on a line")
    return rows


def given_questions(given: Iterable[object], where: str = "cola.data") -> list[Question]:
    """Return questions handed over in memory, checked as those of a file are; rows are counted from 1.

    Raises:
        DataError: there is none, or a row is malformed or repeats an id.
    """
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, value in enumerate(given, start=1):
        place = f"{where}: row {number}"
        row = value.model_dump() if isinstance(value, Question) else value
        if not isinstance(row, Mapping):
            raise DataError(place, type(row).__name__, "a mapping of id, question, choices and answer")
        question = _question(row, place)
        _check_new(question, seen, place, "row")
        seen[question.id] = number
        questions.append(question)
    if not questions:
        raise DataError(where, "no question", "one or more")
    return questions


def refuse_missing(value: object) -> None:
    """Refuse NaN where a text belongs, also within a list: pandas writes what is missing so.

    Raises:
        ValueError: it is there.
    """
    try:
        refuse_not_finite(value)
    except DataError as error:
        raise ValueError(f"text, not {error.got}: leave out what is missing") from error


_FIELDS = "id, question, choices (two or more, each different) and answer (an index from 0)"


def _question(values: Mapping[str, Any], where: str) -> Question:
    try:
        question = Question.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "row"
        got: object = f"no such field beside {', '.join(map(str, values)) or 'none'}"
        if first["type"] != "missing":
            got = _brief(first["input"])
        message = first["msg"].removeprefix("Value error, ")
        raise DataError(f"{where}: {place}", got, f"{_FIELDS}; {message[:1].lower()}{message[1:]}") from error
    if question.answer >= len(question.choices):
        raise DataError(f"{where}: answer", question.answer, f"an index from 0 to {len(question.choices) - 1}")
    return question


def _check_new(question: Question, seen: Mapping[str, int], where: str, what: str) -> None:
    if question.id in seen:
        raise DataError(f"{where}: id", question.id, f"an id not used before ({what} {seen[question.id]})")


def _brief(value: object) -> object:
    """Return a value short enough for a line."""
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= 80 else f"{text[:77]}..."
