"""Price tables: read, checked, looked up; a model without a price is refused in one line."""

import datetime
import json

import pytest
from plait.errors import SpecError
from plait.models.chat import TokenPrice, Usage
from plait.models.prices import PriceTable

TABLE = """
dated: 2026-11-01
gpt-4o-mini: {prompt: 0.15, completion: 0.60, cached: 0.075}
"gpt-*": {prompt: 10, completion: 30}
"gpt-4o*": {prompt: 2.5, completion: 10}
free: {prompt: 0, completion: 0}
"""


@pytest.fixture
def table(tmp_path):
    (tmp_path / "prices.yaml").write_text(TABLE)
    return PriceTable.load(tmp_path / "prices.yaml")


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-4o-mini", TokenPrice(0.15, 0.6, 0.075)),
        ("gpt-4o-2024", TokenPrice(2.5, 10.0)),
        ("gpt-3.5", TokenPrice(10.0, 30.0)),
        ("free", TokenPrice(0.0, 0.0)),
        ("GPT-4o-mini", None),
        ("llama", None),
    ],
)
def test_the_name_itself_counts_before_the_longest_glob(table, model, price):
    assert table.of(model) == price


def test_a_table_says_when_it_was_looked_up(table):
    assert table.dated == datetime.date(2026, 11, 1)


def test_json_is_read_alike(tmp_path, table):
    plain = {"dated": "2026-11-01", "free": {"prompt": 0, "completion": 0}}
    (tmp_path / "prices.json").write_text(json.dumps(plain))
    assert PriceTable.load(tmp_path / "prices.json").of("free") == table.of("free")


def test_cached_tokens_cost_what_the_table_says(table):
    usage = Usage(prompt=1_000_000, completion=500_000, cached=400_000)
    assert table.require("gpt-4o-mini").of(usage) == pytest.approx(0.6 * 0.15 + 0.4 * 0.075 + 0.5 * 0.6)


def test_a_model_without_a_price_is_refused_in_one_line(table):
    with pytest.raises(SpecError) as caught:
        table.require("llama")
    assert str(caught.value).endswith(
        "prices.yaml: got 'llama', expected a price for this model: a budget in US dollars cannot be kept without one"
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("m: {prompt: -1, completion: 1}", r"m\.prompt: got -1"),
        ("m: {prompt: 1}", r"m\.completion: "),
        ("m: {prompt: .inf, completion: 1}", r"m: prompt is infinity"),
        ("m: {prompt: '1', completion: 1}", r"m\.prompt: got '1'"),
        ("m: {prompt: 1, completion: 1, chached: 1}", r"m\.chached: got 1"),
        ("m: 3", r"m: got 3"),
        ("dated: tomorrow\nm: {prompt: 1, completion: 1}", r"dated: got 'tomorrow'"),
        ("- m", r"got 'list'"),
        ("m: {", r"YAML or JSON price table"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, text, named):
    (tmp_path / "prices.yaml").write_text(text)
    with pytest.raises(SpecError, match=named) as caught:
        PriceTable.load(tmp_path / "prices.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"absent\.yaml"):
        PriceTable.load(tmp_path / "absent.yaml")
