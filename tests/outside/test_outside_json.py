"""Hostile JSON lines over every loader: read right, or refused in one line that names file and line."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.errors import DataError, PlaitError, SpecError
from plait.models.prices import PriceTable
from plait.orchestrator.data import load_questions
from plait.orchestrator.recipes.cola import CoLa
from plait.orchestrator.recipes.compress_decoder_data import load_passages
from plait.orchestrator.recipes.judge_data import load_pairs
from plait.orchestrator.recipes.team_data import load_items
from plait.orchestrator.spec import read_spec
from plait.team_files import load_team

LOADERS = {
    "questions": (load_questions, {"id": "a", "question": "Why?", "choices": ["x", "y"], "answer": 0}, "question"),
    "pairs": (load_pairs, {"id": "a", "query": "q", "response1": "x", "response2": "y"}, "response1"),
    "labels": (
        lambda path: load_pairs("plait:pairs", labels=path), {"id": "pair-00", "human": "tie"}, "human"
    ),
    "items": (load_items, {"question": "2 + 3?", "kind": "number", "gold": 5}, "gold"),
    "passages": (lambda path: load_passages([str(path)], "data"), {"text": "Some words."}, "text"),
}  # fmt: skip

HOSTILE = {
    "NaN": lambda row, field: json.dumps({**row, field: math.nan}),
    "infinity": lambda row, field: json.dumps({**row, field: math.inf}),
    "NaN beside": lambda row, field: json.dumps({**row, "note": math.nan}),
    "too large a number": lambda row, field: json.dumps(row)[:-1] + ', "weight": 1e999}',
    "a key twice": lambda row, field: json.dumps(row)[:-1] + f", {json.dumps(field)}: {json.dumps(row[field])}}}",
    "half a surrogate": lambda row, field: json.dumps({**row, "note": "\ud800"}),
    "deep": lambda row, field: json.dumps(row)[:-1] + ', "deep": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "long number": lambda row, field: json.dumps(row)[:-1] + ', "long": ' + "9" * 5000 + "}",
    "torn": lambda row, field: json.dumps(row)[:-4],
    "a number alone": lambda row, field: "5",
    "a text alone": lambda row, field: '"text"',
    "null": lambda row, field: "null",
    "NUL": lambda row, field: "\x00" * 8,
    "two objects": lambda row, field: json.dumps(row) * 2,
    "an array": lambda row, field: json.dumps([row]),
}  # fmt: skip
CHANGED = {"NaN", "infinity", "NaN beside", "too large a number", "a key twice", "half a surrogate", "deep"}
"""What some loader once read, or met with a traceback."""


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


@pytest.mark.row("B: hostile JSON lines")
@pytest.mark.parametrize("hostile", sorted(CHANGED))
def test_what_was_read_wrongly_is_refused_by_every_loader(hostile, tmp_path):
    for name, (load, row, field) in LOADERS.items():
        file = write(tmp_path / f"{name}.jsonl", "\n" + HOSTILE[hostile](row, field) + "\n")
        with pytest.raises(PlaitError) as refused:
            load(file)
        line = str(refused.value)
        assert f"{name}.jsonl:2" in line
        assert "\n" not in line


@pytest.mark.parametrize("hostile", sorted(set(HOSTILE) - CHANGED))
@pytest.mark.parametrize("name", LOADERS)
def test_a_bad_line_is_named_by_every_loader(name, hostile, tmp_path):
    load, row, field = LOADERS[name]
    file = write(tmp_path / "rows.jsonl", HOSTILE[hostile](row, field) + "\n")
    with pytest.raises(PlaitError, match=r"rows\.jsonl:1"):
        load(file)


@pytest.mark.row("B: byte order marks and archives")
@pytest.mark.parametrize("name", LOADERS)
def test_a_byte_order_mark_is_no_part_of_the_text(name, tmp_path):
    load, row, _ = LOADERS[name]
    file = write(tmp_path / "rows.jsonl", b"\xef\xbb\xbf" + json.dumps(row).encode() + b"\r\n\r\n")
    assert len(load(file)) >= 1


@pytest.mark.row("B: byte order marks and archives")
@pytest.mark.parametrize(("data", "word"), [
    (b"\x1f\x8b\x08\x00rest", "gzip"), (b"PAR1\x15\x04", "Parquet"), ("{}".encode("utf-16"), "UTF-16"),
    (b"PK\x03\x04z", "zip"),
])  # fmt: skip
def test_other_kinds_of_file_are_called_by_their_name(data, word, tmp_path):
    for name, (load, _, _) in LOADERS.items():
        with pytest.raises(PlaitError) as refused:
            load(write(tmp_path / f"{name}.jsonl", data))
        assert word in str(refused.value)


@pytest.mark.parametrize("name", LOADERS)
def test_a_folder_an_empty_file_and_a_missing_one_are_one_line(name, tmp_path):
    load = LOADERS[name][0]
    (tmp_path / "folder.jsonl").mkdir()
    for file in (tmp_path / "folder.jsonl", tmp_path / "missing.jsonl"):
        with pytest.raises(PlaitError, match=file.name):
            load(file)


@pytest.mark.row("B: a key twice in YAML")
def test_a_key_twice_and_nan_are_refused_in_yaml(tmp_path):
    for text in ("method: cola\nseed: 1\nseed: 2\n", "method: cola\nlength_weight: .nan\n", "a: {b: 1, b: 2}\n"):
        with pytest.raises(SpecError):
            read_spec(write(tmp_path / "spec.yaml", text))
        with pytest.raises(SpecError):
            load_team(write(tmp_path / "team.yaml", text))
    with pytest.raises(SpecError):
        PriceTable.load(
            write(tmp_path / "prices.yaml", "m: {prompt: 1, completion: 2}\nm: {prompt: 3, completion: 4}\n")
        )
    with pytest.raises(SpecError):
        PriceTable.load(write(tmp_path / "prices.json", '{"m": {"prompt": 1, "prompt": 9, "completion": 2}}'))


@pytest.mark.row("B: questions in memory")
@pytest.mark.parametrize("row", [
    {"id": math.nan, "question": "q", "choices": ["a", "b"], "answer": 0},
    {"id": "1", "question": math.nan, "choices": ["a", "b"], "answer": 0},
    {"id": "1", "question": "q", "choices": ["a", math.nan], "answer": 0},
    {"id": "1", "question": "q", "choices": ["a", "b"], "answer": 7},
    {"id": "1", "question": "q", "choices": ["a", "a"], "answer": 1},
])  # fmt: skip
def test_questions_in_memory_are_checked_as_those_of_a_file(row):
    with pytest.raises(DataError, match="row 1"):
        CoLa(data=[row])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(name=st.sampled_from(sorted(LOADERS)), field=st.integers(0, 4), value=json_values, cut=st.integers(0, 80))
@settings(deadline=None)
def test_no_value_of_any_field_ends_in_a_traceback(name, field, value, cut, tmp_path_factory):
    load, row, _ = LOADERS[name]
    changed = {**row, sorted(row)[field % len(row)]: value}
    text = json.dumps(changed)
    file = write(tmp_path_factory.mktemp("fuzz") / "rows.jsonl", text[:cut] if cut < 40 else text)
    lines = []
    try:
        load(file)
    except PlaitError as refused:
        lines = str(refused).splitlines()
    assert len(lines) <= 1
