"""What servers say of usage, and the estimate where they say nothing that can be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.models.chat import Usage
from plait.models.completions import _WHOLE, estimate_tokens, read_usage

ASK = [{"role": "user", "content": "What is 2 + 2?"}]

PROSE = "The quick brown fox, whose name nobody there remembers, jumped over another lazy dog; then it slept. "
ENGLISH = (
    "When the rain had stopped, most of the people who were waiting at the station walked home. It was late, and "
    "nobody said much about what they had seen. Should the work be done again, or is it better to leave it? "
)
CODE = "def f(x: int) -> dict[str, float]:\n    return {f'{x!r}': x ** 0.5 for _ in range(0x10)}  # TODO\n"
LETTERS = st.text("abcdefghijklmnopqrstuvwxyz", max_size=300)
FRAGMENTS = st.sampled_from(
    [PROSE, ENGLISH, CODE, "这是一个测试。", "日本語の", "한국어", "😀", "👩‍👩‍👧", "é", "\t", "\n\n", "  "]
)
PAIRS = st.sampled_from([pair for pair in _WHOLE.pattern.split("|") if len(pair.strip()) == 2])
TEXTS = st.one_of(
    LETTERS,
    st.lists(st.text("etaoinshrdluETAOIN", min_size=1, max_size=9), max_size=60).map(" ".join),
    st.lists(st.one_of(PAIRS, LETTERS.map(lambda text: text[:1])), max_size=150).map("".join),
    st.lists(st.one_of(FRAGMENTS, st.text(max_size=20)), max_size=12).map("".join),
)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 9, "completion_tokens": -3},
        {"prompt_tokens": 9, "completion_tokens": True},
        {"prompt_tokens": 9.0, "completion_tokens": 1},
        {"prompt_tokens": "9", "completion_tokens": 1},
        {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 10}},
        {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": "1"}},
    ],
)
def test_a_usage_that_cannot_be_is_estimated(usage):
    assert read_usage({"usage": usage}, ASK, "4") == Usage(estimate_tokens(ASK), 1, known=False)


@pytest.mark.parametrize(
    ("details", "cached"), [(None, 0), ({}, 0), ({"cached_tokens": None}, 0), ({"cached_tokens": 9}, 9)]
)
def test_a_usage_that_can_be_is_believed(details, cached):
    usage = {"prompt_tokens": 9, "completion_tokens": 0, "prompt_tokens_details": details}
    assert read_usage({"usage": usage}, ASK, "4") == Usage(9, 0, cached)


@pytest.fixture(scope="module")
def tokenizer(smollm2):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2.folder)


def taken(tokenizer, text):
    messages = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return estimate_tokens(messages), len(tokenizer.encode(rendered, add_special_tokens=False))


@pytest.mark.weights
@given(text=TEXTS)
def test_no_text_takes_more_tokens_than_estimated(tokenizer, text):
    estimated, true = taken(tokenizer, text)
    assert true <= estimated


@pytest.mark.weights
def test_the_estimate_of_english_is_under_two_and_a_half_times_what_it_takes(tokenizer):
    estimated, true = taken(tokenizer, ENGLISH * 40)
    assert true <= estimated <= 2.5 * true
