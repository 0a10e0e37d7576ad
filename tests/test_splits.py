"""Splits of items, and the leak check: equal questions fall on one side, overlap is refused, held-out text is found."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.errors import SpecError
from plait.search.gate import MEAN, THREE_LOOKS, sign
from plait.search.splits import EXAMPLE, Grams, Splits, normalised, split_items

SIZES = {"train": 20, "validation": 30, "confirm": 40, "test": 10}
QUESTIONS = {f"q{i}": f"How many apples are left when {i} of 200 have been eaten by the children?" for i in range(120)}
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "text"


def test_sizes_are_met_and_items_fall_on_one_side():
    splits = split_items(QUESTIONS, SIZES, seed=0)
    assert {name: len(items) for name, items in splits.parts()} == SIZES
    assert len({item for _, items in splits.parts() for item in items}) == 100
    assert len(splits.held_out) == 80
    assert splits.split_of(splits.confirm[3]) == "confirm"
    assert splits.split_of("nobody") == ""
    splits.check(QUESTIONS)


def test_the_seed_deals_and_the_order_does_not():
    shuffled = dict(sorted(QUESTIONS.items(), key=lambda pair: pair[0][::-1]))
    assert list(shuffled) != list(QUESTIONS)
    assert split_items(shuffled, SIZES, seed=0) == split_items(QUESTIONS, SIZES, seed=0)
    assert split_items(QUESTIONS, SIZES, seed=1) != split_items(QUESTIONS, SIZES, seed=0)


def test_shares_are_met_nearly_and_more_items_move_none():
    shares = {"train": 0.25, "validation": 0.25, "test": 0.3}
    many = {f"q{i}": f"What is {i} plus one?" for i in range(4000)}
    few = {item: many[item] for item in list(many)[:1000]}
    all_of_them, some = split_items(many, shares, seed=3), split_items(few, shares, seed=3)
    for name, items in all_of_them.parts():
        assert len(items) / 4000 == pytest.approx(shares.get(name, 0), abs=0.03)
    assert all(set(items) <= set(getattr(all_of_them, name)) for name, items in some.parts())


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(0, 5))
def test_a_repeated_question_never_falls_on_two_sides(kinds, seed):
    forms = ("What is {} + 1?", "what is  {} + 1 ?", "WHAT IS\n{} + 1?")
    questions = {f"q{i}": forms[i % 3].format(kind) for i, kind in enumerate(kinds)}
    splits = split_items(questions, {"train": 0.4, "validation": 0.3, "test": 0.3}, seed)
    splits.check(questions)
    assert sorted(item for _, items in splits.parts() for item in items) == sorted(questions)


def test_repeats_stay_together_where_sizes_are_given():
    questions = {f"{copy}{i}": f"What is {i}?" for i in range(50) for copy in "ab"}
    splits = split_items(questions, {"train": 40, "validation": 60}, seed=0)
    splits.check(questions)
    with pytest.raises(SpecError, match="splits: train: got 41, expected 40 items, all that is left"):
        split_items(questions, {"train": 41, "validation": 20}, seed=0)


def test_normalised_keeps_what_makes_another_question():
    assert normalised("What is  ２ + 3 ?\n") == normalised("what is 2 + 3?")
    assert len({normalised(text) for text in ("2 + 3", "2 - 3", "2 * 3", "23")}) == 4


def test_an_item_in_two_splits_is_refused_by_name():
    with pytest.raises(SpecError, match="splits: got 'b in train and b in test', expected each question in one split"):
        Splits(train=("a", "b"), test=("b",))
    with pytest.raises(SpecError, match="a in confirm and a in confirm"):
        Splits(confirm=("a", "a"))


def test_a_question_asked_in_two_splits_is_refused_by_name():
    splits = Splits(train=("a", "b"), validation=("c",), test=("d",))
    splits.check({"a": "Same.", "b": "same.", "c": "Other.", "d": "A third."})  # twice in one split is no leak
    with pytest.raises(SpecError, match="b in train and d in test"):
        splits.check({"a": "One.", "b": "Two ?", "c": "Three.", "d": "two?"})
    with pytest.raises(SpecError, match="got 'd', expected an item with a question"):
        splits.check({"a": "One.", "b": "Two?", "c": "Three."})


def test_many_overlaps_are_counted():
    items = tuple(map(str, range(20)))
    with pytest.raises(SpecError, match="; 15 more"):
        Splits(train=items, test=items)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"train": 100, "test": 21}, "120 items or fewer"),
        ({"train": 0.7, "test": 0.4}, "add up to 1 or less"),
        ({"train": -0.1}, "shares above 0"),
        ({"train": 0.5, "test": 10}, "numbers of items, or shares"),
        ({"train": -3}, "numbers of items, or shares"),
        ({"dev": 10}, "names among train, validation, confirm, test"),
    ],
)
def test_sizes_that_cannot_be_met_are_refused(sizes, expected):
    with pytest.raises(SpecError, match=expected):
        split_items(QUESTIONS, sizes, seed=0)


class TestNotes:
    def splits(self, validation, confirm):
        names = [f"q{i}" for i in range(validation + confirm)]
        return Splits(validation=tuple(names[:validation]), confirm=tuple(names[validation:]))

    def test_enough_items_need_none(self):
        assert self.splits(300, 800).notes(THREE_LOOKS) == ()

    def test_few_items_are_told_with_how_many_and_the_power(self):
        validation, confirm = self.splits(120, 200).notes(THREE_LOOKS)
        assert validation.startswith(
            "validation: 120 items where gate three_looks wants 300: it looks after 13, 40, 120"
        )
        assert f"{THREE_LOOKS.power(120, 0.05):.0%} of changes of +5 points" in validation
        small, large = (sign(0.05, 200).power(200, gain) for gain in (0.05, 0.10))
        assert confirm == f"confirm: 200 items confirm {small:.0%} of gains of +5 points and {large:.0%} of +10"

    def test_nothing_to_confirm_on_is_told(self):
        assert self.splits(300, 0).notes(MEAN) == ("confirm: no items, so nothing that is learned can be confirmed",)

    def test_too_few_to_decide_anything_are_refused(self):
        with pytest.raises(SpecError, match="items for gate three_looks: got 8, expected 9 or more"):
            self.splits(8, 100).notes(THREE_LOOKS)


class TestLeaks:
    held = "A baker sells seven loaves every morning and nine more in the afternoon; how many in a week?"
    grams = Grams.of([held])

    def test_eight_words_in_a_row_are_a_leak_and_seven_are_none(self):
        words = self.held.split()
        assert self.grams.leaks("Think. " + " ".join(words[4:12]) + " Then answer.")
        assert not self.grams.leaks("Think. " + " ".join(words[4:11]) + " Then answer.")

    def test_case_spaces_and_punctuation_hide_nothing(self):
        assert self.grams.leaks(self.held.upper().replace(" ", "\n - ").replace(";", ""))

    def test_advice_is_no_leak(self):
        assert not self.grams.leaks("Work out what is sold in a day first, then multiply it by the days of a week.")
        assert not Grams().leaks(self.held)

    def test_one_marked_example_is_passed_over_and_no_second(self):
        marked = f"{EXAMPLE[0]}{self.held}{EXAMPLE[1]}"
        assert not self.grams.leaks(f"Answer like this: {marked} Be brief.")
        assert self.grams.leaks(f"{marked} and {marked}")
        assert self.grams.leaks(f"{marked} {self.held}")
        assert self.grams.leaks(f"{EXAMPLE[0]}{self.held}")  # never closed

    def test_where_training_questions_are_known_marks_hide_nothing_else(self):
        training = "A farmer sells seven eggs every morning and two more in the evening; how many in a week?"
        grams = Grams.of([self.held], [training])
        assert not grams.leaks(f"{EXAMPLE[0]}{training}{EXAMPLE[1]}")
        assert grams.leaks(f"{EXAMPLE[0]}{self.held}{EXAMPLE[1]}")

    def test_words_that_training_questions_share_are_no_leak(self):
        phrase = "If you follow these instructions, do you return to the starting point?"
        held, training = f"{phrase} Take 3 steps. Turn around.", f"{phrase} Turn left. Take 9 steps."
        text = f"The question is always: {phrase}"
        assert Grams.of([held]).leaks(text)
        assert not Grams.of([held], [training]).leaks(text)
        assert Grams.of([held], [training]).leaks(held)

    def test_it_holds_no_question_and_is_the_same_everywhere(self):
        assert Grams.of(["one two three four five six seven eight"]).spans == {6903290530720575867}


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/text")
def test_released_questions_are_split_apart():
    """MultiArith repeats some questions; GSM8K's suggested sizes fit and its test questions are its own."""
    rows = {
        name: [json.loads(line) for line in (DATA / f"{name}.jsonl").open()]
        for name in ("multiarith", "gsm8k_train", "gsm8k_test")
    }
    repeated = {str(row["id"]): row["question"] for row in rows["multiarith"]}
    assert len({normalised(text) for text in repeated.values()}) < len(repeated)
    split_items(repeated, {"train": 0.3, "validation": 0.3, "confirm": 0.4}, seed=0).check(repeated)
    train = {f"train{row['id']}": row["question"] for row in rows["gsm8k_train"]}
    test = {f"test{row['id']}": row["question"] for row in rows["gsm8k_test"]}
    dealt = split_items(train, {"train": 500, "validation": 300, "confirm": 800}, seed=0)
    splits = Splits(dealt.train, dealt.validation, dealt.confirm, tuple(test))
    splits.check(train | test)
    assert splits.notes(THREE_LOOKS) == ()
    held = [(train | test)[item] for item in splits.held_out]
    grams = Grams.of(held, [train[item] for item in splits.train])
    assert all(grams.leaks(text) for text in held[:50] if len(text.split()) > 20)
    assert not any(grams.leaks(train[item]) for item in splits.train)
