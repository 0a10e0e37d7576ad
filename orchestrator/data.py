"""Multiple-choice questions from files of JSON lines, checked before anything runs.

Must not know models or methods.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import DataError
from ..user_files import json_rows, refuse_not_finite

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

    def item(self, template: str = TEMPLATE) -> dict[str, object]:
        """Return what an evaluator sees of it: prompt and options, and never the answer."""
        return {
            "prompt": template.replace("{question}", self.question),
            "options": [f" {choice}" for choice in self.choices],
        }


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
    for number, row in json_rows(path, str(source)):
        question = _parse(row, f"{source}:{number}")
        if question.id in seen:
            raise DataError(f"{source}:{number}: id", question.id, f"an id not used before (line {seen[question.id]})")
        seen[question.id] = number
        questions.append(question)
    if not questions:
        raise DataError(str(source), "no question", "one or more, each a JSON object on a line")
    return questions[:limit]


def given_questions(given: Sequence[Question | Mapping[str, Any]]) -> list[Question]:
    """Return questions handed over in memory, checked as those of a file are; rows are counted from 1.

    Raises:
        DataError: a row is malformed or repeats an id.
    """
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(given, start=1):
        where = f"cola.data: row {number}"
        if not isinstance(row, Question | Mapping):
            raise DataError(where, type(row).__name__, "a mapping of id, question, choices and answer")
        question = _parse(row.model_dump() if isinstance(row, Question) else row, where)
        if question.id in seen:
            raise DataError(f"{where}: id", question.id, f"an id not used before (row {seen[question.id]})")
        seen[question.id] = number
        questions.append(question)
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


def _parse(row: Mapping[str, Any], where: str) -> Question:
    try:
        question = Question.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "row"
        got = "nothing" if first["type"] == "missing" else first["input"]
        raise DataError(
            f"{where}: {place}",
            got,
            "id, question, choices (two or more) and answer (an index); "
            + first["msg"].removeprefix("Value error, ").lower(),
        ) from error
    if len(set(question.choices)) < len(question.choices):
        twice = next(choice for choice in question.choices if question.choices.count(choice) > 1)
        raise DataError(f"{where}: choices", twice, "choices that differ: two equal ones have one probability")
    if question.answer >= len(question.choices):
        raise DataError(f"{where}: answer", question.answer, f"an index from 0 to {len(question.choices) - 1}")
    return question
