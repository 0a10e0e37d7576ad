"""How answers are read: tolerant of form, one value for what means the same, and a reason where there is none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.agents.teams.parsing import read
from plait.teams import Schema

NUMBER = Schema(kind="number")
OPTIONS = Schema(kind="option", options=tuple("ABCDE"))
WORDS = Schema(kind="option", options=("valid", "invalid"))
VALUES = Schema(kind="values", fields=("mean", "p value"))
YES, WORD, CODE = Schema(kind="boolean"), Schema(kind="word"), Schema(kind="code")


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (NUMBER, "It is $1,234.50.", "1234.5"),
        (NUMBER, "First 5, then 6 * 7 = 42", "42"),
        (NUMBER, "Answer: 3\nI checked it 5 times.", "3"),
        (NUMBER, "#### -7", "-7"),
        (NUMBER, "\\boxed{12} as in step 2", "12"),
        (NUMBER, "18.00 eggs", "18"),
        (NUMBER, "3/4 of it", "0.75"),
        (NUMBER, "10-4=6", "6"),
        (NUMBER, "none", None),
        (NUMBER, "1e999999999", None),
        (OPTIONS, "(C)", "C"),
        (OPTIONS, "b", "B"),
        (OPTIONS, "Answer: A because B is wrong", "A"),
        (OPTIONS, "A train leaves. The answer is (D).", "D"),
        (OPTIONS, "A train leaves", None),
        (WORDS, "This is invalid.", "invalid"),
        (WORDS, "B", "invalid"),
        (YES, "Yes", "true"),
        (YES, "Answer: **False**, not true", "false"),
        (YES, "knot", None),
        (WORD, "Well.\nAnswer: apple  Bear cat.", "apple bear cat"),
        (WORD, "It is that one\n**Blue**", "blue"),
        (WORD, "one two three four five six seven eight nine", None),
        (CODE, "```\nx = 1\n```\nbetter:\n```python\nx = 2\n```\nDone.", "x = 2"),
        (CODE, "```python\ndef f():\n    return 1", "def f():\n    return 1"),
        (CODE, "def f(x):\n    return x\n\nThis doubles nothing.", "def f(x):\n    return x"),
        (CODE, "```\ndef f(:\n```", None),
        (CODE, "hello", None),
        (VALUES, '{"mean": 3.5, "p value": "low"}', '{"mean":"3.5","p value":"low"}'),
        (VALUES, "@mean[3.5]\n@p value[low]", '{"mean":"3.5","p value":"low"}'),
        (VALUES, "@mean[3.5]", '{"mean":"3.5"}'),
        (Schema(), " a text ", "a text"),
        (Schema(), " ", None),
    ],
)
def test_answers_are_read_with_tolerance_of_form(schema, text, value):
    found = read(text, schema)
    assert found.value == value
    assert bool(found.error) == (value is None)


@given(st.text(max_size=80), st.sampled_from([NUMBER, OPTIONS, WORDS, YES, WORD, CODE, VALUES, Schema()]))
def test_no_answer_breaks_the_reader(text, schema):
    found = read(text, schema)
    assert (found.value is None) == bool(found.error)
    json.dumps(found.value)
