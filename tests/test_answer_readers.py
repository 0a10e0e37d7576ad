"""How answers are read, kind by kind: what is wholly understood has its value, and everything else has none."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.agents.teams.matching import numbers_meant, same_number
from plait.agents.teams.numerals import first_number
from plait.agents.teams.parsing import Sought, read, read_object
from plait.agents.teams.read_programs import program_of
from plait.teams import Schema

NUMBER, BOOLEAN, WORD, CODE = (Schema(kind=kind) for kind in ("number", "boolean", "word", "code"))
CITIES = ("Oslo", "Rome", "Bern")
VALUES = Schema(kind="values", fields=("mean", "sd"))


def options(texts=CITIES):
    return Schema(kind="option", options=tuple("ABCDEFGH"[: len(texts)])), Sought(choices=texts)


def chosen(text, texts=CITIES):
    return read(text, *options(texts)).value


# -- numbers: the grammar

WHOLE = {
    "42": "42",
    " -7": "-7",
    "\u22127": "-7",
    "+3": "3",
    "1,234": "1234",
    "1,234.50": "1234.5",
    "12 345": "12345",
    "1 234 567": "1234567",
    "1\u202f234": "1234",
    "1\u00a0234.5": "1234.5",
    "3 000 000.25": "3000000.25",
    ".5": "0.5",
    "-.5": "-0.5",
    "007": "7",
    "5.": "5",
    "5.)": "5",
    "\u0664\u0662": "42",
    "1\uff0c234": "1234",
    "3/4": "0.75",
    "-3/4": "-0.75",
    "3 / 4": "0.75",
    "1 1/2": "1.5",
    "-2 3/4": "-2.75",
    "1\u00bd": "1.5",
    "\u00bd": "0.5",
    "50%": "50%",
    "50 percent": "50%",
    "5 %": "5%",
    "3e8": "300000000",
    "1.5E-3": "0.0015",
    "3 x 10^8": "300000000",
    "3 \u00d7 10\u2078": "300000000",
    "3\u00d710\u207b\u00b2": "0.03",
    "3*10**8": "300000000",
    "3 * 10 ** 8": "300000000",
    "10^8": "100000000",
    "3 \\times 10^{8}": "300000000",
    "3 \\cdot 10^{-3}": "0.003",
    "1.5 million": "1500000",
    "2 billion dollars": "2000000000",
    "3 hundred thousand": "300000",
    "$5 million": "5000000",
    "7 trillion": "7000000000000",
    "$-5": "-5",
    "-$5": "-5",
    "\u20ac5": "5",
    "5\u20ac": "5",
    "Rs. 500": "500",
    "USD 5": "5",
    "US$5": "5",
    "$5$": "5",
    "$1,234$": "1234",
    "$\\frac{3}{4}$": "0.75",
    "\\dfrac{3}{4}": "0.75",
    "\\frac34": "0.75",
    "-\\frac{3}{4}": "-0.75",
    "2\\frac{3}{4}": "2.75",
    "\\frac{-3}{4}": "-0.75",
    "1{,}234": "1234",
    "1\\,234": "1234",
    "5\\text{ cm}": "5",
    "5\\ \\mathrm{cm}^2": "5",
    "\\text{5 apples}": "5",
    "\\(5\\)": "5",
    "50\\%": "50%",
    "90^\\circ": "90",
    "90\u00b0": "90",
    "5 apples": "5",
    "5kg": "5",
    "60 km/h": "60",
    "60km/h": "60",
    "20 m^2": "20",
    "20 m\u00b2": "20",
    "20 cm2": "20",
    "5 m/s": "5",
    "12-inch": "12",
    "5/hour": "5",
    "5 times": "5",
    "**42**": "42",
    "*42*": "42",
    "`42`": "42",
    "[5]": "5",
    "(5)": "5",
    "42!": "42",
    "about 5": "5",
    "\u2248 5": "5",
    "~5": "5",
    "5...": "5",
    "98.6\u00b0F": "98.6",
    "6*7 = 42": "42",
    "6\u00d77=42": "42",
    "5 + 3 = 8 apples": "8",
    "5 apples + 3 apples = 8 apples": "8",
    "x = 5": "5",
    "x = -5": "-5",
    "x = - 5": "-5",
    "5 = x": "5",
    "3/4 = 0.75": "0.75",
    "10-4=6": "6",
    "2 x 3 = 6": "6",
    "negative 5": "-5",
    "minus 5": "-5",
    "12 (twelve) items, 3 of them red": "12",
    "42, since 6*7=42 and not 6+7=13": "42",
    "4 x $1.5 = $6": "6",
    "6 * $8 = $48": "48",
}
UNCLEAR = [
    "1.234,56",
    "1.234.567",
    "1,23",
    "12,5",
    "0,5",
    "12,34,567",
    "100,20",
    "1,2345",
    "1 23",
    "1'234",
    "1_000",
    "1 3/2",
    "12 345/6",
    "1/0",
    "1/2/3",
    "3.5/2",
    "5k",
    "5 K",
    "5M",
    "5 bn",
    "$5m",
    "5 dozen",
    "1 millionkg",
    "\u221a16",
    "log 100",
    "the square root of 16",
    "half of 10",
    "20% of 50",
    "5 less than 10",
    "0x1F",
    "3 remainder 1",
    "5 (or maybe 6)",
    "10 to the power of 5",
    "1 in 4",
    "-(5)",
    "$(5)",
    "5\u2030",
    "January 5",
    "5 January",
    "5 mln",
    "3 millionths",
    "5 hundredths",
    "7 tenths",
    "5 quarters",
    "2 and a half",
    "5 squared",
    "\\sqrt{16}",
    "5\\pi",
    "2^{10}",
    "2^10",
    "2\u00b9\u2070",
    "3-5",
    "3\u20135",
    "3 to 5",
    "5 or 6",
    "between 3 and 5",
    "5 \u00b1 1",
    "\u00b15",
    "at least 5",
    "up to 5",
    "> 5",
    "\u22655",
    "5+",
    "5 or more",
    "3 < x < 5",
    "2024-05-01",
    "5/1/2024",
    "3:45",
    "3:45 pm",
    "3 pm",
    "12:30",
    "1.2.3",
    "5th",
    "3rd place",
    "not 5",
    "isn't 5",
    "maybe 5",
    "5?",
    "5!",
    "1, 2, 3",
    "(3, 4)",
    "3, 4",
    "3 apples and 4 oranges",
    "5 feet 3 inches",
    "5'3\"",
    "2 hours and 30 minutes",
    "2 million 300 thousand",
    "H2O",
    "GPT4",
    "x2",
    "2x",
    "f(2) = 5",
    "x + 5 = 12",
    "3x = 12",
    "12 = 3x",
    "100 cm = 1 m",
    "- 5",
    "\u20135",
    "10 minus 4",
    "10 - 4",
    "0.1 + 0.2",
    "2 x 3",
    "5 out of 8",
    "5 of 8",
    "1...5",
    "1e999999999",
]


@pytest.mark.parametrize("text", WHOLE)
def test_a_number_of_the_grammar_has_its_value(text):
    found = first_number(text)
    assert found is not None
    assert found.text == WHOLE[text]
    assert read(f"Answer: {text}", NUMBER).value == WHOLE[text]


@pytest.mark.parametrize("text", UNCLEAR)
def test_what_is_half_understood_is_no_number(text):
    found = first_number(text)
    assert found is not None
    assert found.value is None
    assert read(f"I began with 77.\nAnswer: {text}", NUMBER).value is None, "and nothing else is taken for it"


SIGN, GROUP = (
    st.sampled_from(["", "-", "\u2212", "+"]),
    st.sampled_from([",", " ", "\u2009", "\u202f", "\u00a0", "\\,", ""]),
)
BEFORE = st.sampled_from(["", "$", "**", "x = ", "\\boxed{", "about ", "\\text{", "("])
AFTER = {"**": "**", "\\boxed{": "}", "\\text{": "}", "(": ")"}
UNITS = st.sampled_from(
    ["", " apples", "kg", " cm^2", " dollars a day", ".", " \\text{ m}", " (in total), 3 of them red"]
)


@st.composite
def written(draw):
    """A number as people write it, and its value."""
    sign, group, whole = draw(SIGN), draw(GROUP), draw(st.integers(0, 10**9))
    digits = f"{whole:,}".replace(",", group) if whole >= 1000 else str(whole)
    form = draw(st.sampled_from(["whole", "decimal", "fraction", "latex", "mixed", "power", "e", "million"]))
    minus = -1 if sign in ("-", "\u2212") else 1
    if form == "decimal":
        cents = draw(st.integers(0, 99))
        return f"{sign}{digits}.{cents:02}", minus * (whole + cents / 100)
    if form in ("fraction", "latex", "mixed"):
        over, under = draw(st.integers(1, 98)), draw(st.integers(1, 99))
        if form == "latex":
            return f"{sign}\\frac{{{over}}}{{{under}}}", minus * over / under
        if form == "fraction":
            return f"{sign}{over}/{under}", minus * over / under
        small = draw(st.integers(1, 99))
        return f"{sign}{small} {over}/{over + under}", minus * (small + over / (over + under))
    if form == "power":
        power, times = draw(st.integers(-6, 9)), draw(st.sampled_from([" x ", "\u00d7", " \\times ", "*", " \\cdot "]))
        return f"{sign}1.5{times}10^{{{power}}}", minus * 1.5 * 10**power
    if form == "e":
        power = draw(st.integers(-6, 9))
        return f"{sign}2.5e{power}", minus * 2.5 * 10**power
    if form == "million":
        return f"{sign}{digits} million", minus * whole * 1e6
    return f"{sign}{digits}", minus * whole


@given(written(), BEFORE, UNITS)
def test_numbers_are_read_as_they_are_written(number, before, unit):
    text, value = number
    if before == "\\boxed{" and "3 of" in unit:
        unit = ""
    if "million" in text and unit == "kg":
        unit = " kg"
    said = f"Answer: {before}{text}{AFTER.get(before, '') + unit if before != chr(92) + 'boxed{' else unit + '}'}"
    got = read(said, NUMBER).value
    assert got is not None, said
    assert same_number(value, float(got)), said


@given(
    st.integers(2, 9999),
    st.integers(2, 9999),
    st.sampled_from(
        ["{}-{}", "{} to {}", "{} or {}", "{}, {}", "{}:{}", "{} + {}", "{} and {}", "{} \u00b1 {}", "{} * {}"]
    ),
    st.sampled_from(["Answer: {}", "It is {}", "\\boxed{{{}}}", "{}"]),
)
def test_two_numbers_are_no_answer(one, other, joined, said):
    assert read(said.format(joined.format(one, other)), NUMBER).value is None


@given(
    st.integers(0, 9999),
    st.sampled_from(
        [
            "It is not {}.",
            "The answer is not {}.",
            "It isn't {}",
            "Wrong answer: {}",
            "The answer is never {}",
            "If the answer is {}, all is well.",
            "Answer: {}?",
            "Answer: {}. Wait, that is wrong.",
            "at most {}",
            "It might be {}",
            "Previous answer: {}",
            "The answer can't be {}",
        ]
    ),
)
def test_a_denied_or_doubtful_number_is_no_answer(value, said):
    assert read(said.format(value), NUMBER).value is None


def test_where_a_number_is_read():
    for text, value in {
        "First 5, then 6": "6",
        "Answer: 3\nI checked it 5 times.": "3",
        "#### 18": "18",
        "#### 1. Count\nThere are 7": "7",
        "\\boxed{12} as in step 2": "12",
        "\\boxed{\\boxed{7}}": "7",
        "The answer is $\\boxed{\\text{12 cm}}$.": "12",
        "\\boxed{3}, \\boxed{4}": None,
        "Answer:\n\n$$42$$": "42",
        '{"answer": 42, "confidence": 0.9}': "42",
        '```json\n{"answer": "1,200"}\n```': "1200",
        "{'answer': 42,}": "42",
        "First 5.\nAnswer: cannot be determined": None,
        "Answer (in dollars): 5": "5",
        "Answer: 5 or 6": None,
        "The answer to the question is 7.": "7",
        "The solution is as follows:\n3+4=7": "7",
        "no": None,
        "I think it is 5, not 6.": None,
        "Answer: unknown. I saw 5": None,
    }.items():
        assert read(text, NUMBER).value == value, text


def test_a_percentage_may_be_meant_in_both_ways():
    assert numbers_meant("45%") == (45, 0.45)
    assert numbers_meant("45") == (45,)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (NUMBER, "Answer: 12", None),
        (NUMBER, "Answer: 12\n", "12"),
        (NUMBER, "Answer: 12\nI checked", "12"),
        (NUMBER, "12 plus 7 is 19. 12 plus 7", None),
        (NUMBER, "\\boxed{5} and so", "5"),
        (BOOLEAN, "True. The sen", "true"),
        (BOOLEAN, "The answer is fal", None),
        (BOOLEAN, "True", "true"),
        (CODE, "```python\ndef f(x):\n    y = 1", None),
        (CODE, "```python\nx = 1\n```\nThis is", "x = 1"),
        (VALUES, '{"mean": 1', None),
        (VALUES, '{"mean": 1}\nso', '{"mean":"1"}'),
        (WORD, "Answer: app", None),
        (Schema(), "a text th", "a text th"),
    ],
)
def test_a_reply_that_ended_at_its_limit_is_read_as_far_as_it_is_whole(schema, text, value):
    assert read(text, schema, cut=True).value == value


# -- truth values

SAID = {
    "It is not true.": "false",
    "It isn\u2019t true.": "false",
    "It\u2019s false.": "false",
    "True/False: True": "true",
    "I would say yes.": "true",
    "I'd say no.": "false",
    "Answer: True (not False)": "true",
    "True. It would be false only if no rain fell.": "true",
    "Yes": "true",
    "It isn't true": "false",
    "No, it is not.": "false",
    "Yes, that is correct.": "true",
    "The statement is false.": "false",
    "Answer: true": "true",
    "Answer: not true": "false",
    "The answer is yes because no one fell": "true",
    "\\boxed{\\text{True}}": "true",
    "not True = False. So the answer is False.": "false",
    '{"answer": true}': "true",
    '{"answer": "no"}': "false",
    "Is it true? Yes.": "true",
    "It is true that the sky is blue, so yes.": "true",
    "Answer: yes, it is true": "true",
    "False, because it is not true that pigs fly.": "false",
    "It cannot be true": "false",
    "Answer: t": "true",
    "**Yes.** He did.": "true",
    "- True": "true",
    "So it is false.": "false",
}
NOT_SAID = [
    "No, it is true.",
    "It is not false.",
    "It is anything but true.",
    "The statement 'X is false' is true.",
    "Yes, no, maybe",
    "No idea.",
    "The answer is not no.",
    "The answer would be false if it rained.",
    "It is not untrue",
    "True or false",
    "I am not sure it is true.",
    "Yes and no.",
    "It might be true.",
    "There is no rain.",
    "No rain fell.",
    "It is a true story.",
    "If it rains, it is true.",
    "The sentence is not entirely true. The sentence is not entirely false.",
    "I don't think it is true.",
    "Not yes",
    "False.\n\nWait, True.",
    "Neither true nor false.",
    "Answer: true or false",
    "knot",
    "It would be true.",
    "true?",
]


@pytest.mark.parametrize("text", SAID)
def test_a_truth_value_is_read_with_its_negation(text):
    assert read(text, BOOLEAN).value == SAID[text]


@pytest.mark.parametrize("text", NOT_SAID)
def test_what_says_neither_clearly_is_no_truth_value(text):
    found = read(text, BOOLEAN)
    assert found.value is None
    assert found.error


@given(
    st.sampled_from(
        ["not not true", "never not true", "not false", "isn't false", "not untrue", "neither true nor false"]
    ),
    st.sampled_from(["It is {}.", "The statement is {}", "Answer: {}", "{}"]),
)
def test_a_double_negation_is_not_read(said, form):
    assert read(form.format(said), BOOLEAN).value is None


# -- options

CHOSEN = {
    "Rome": "B",
    "Answer: Rome": "B",
    '{"answer": "B"}': "B",
    "\\boxed{\\text{B}}": "B",
    "Not A. It is C.": "C",
    "The answer is B, not A": "B",
    "Rome (B)": "B",
    "B is correct, A is not.": "B",
    "My choice: C": "C",
    "A. Oslo\nB. Rome\nC. Bern\nThe correct one is B.": "B",
    "(B)": "B",
    "B.": "B",
    "Option B": "B",
    "option b": "B",
    "rome.": "B",
    "Answer: B. Rome": "B",
    "b": "B",
    "**B**": "B",
    "The answer is (B) Rome, not Oslo.": "B",
    "Rome is the capital, not Oslo.": "B",
    "It is not A or B, so it is C.": "C",
    "A is wrong. B is wrong too. So C.": "C",
    "Answer: A because B is wrong": "A",
    "The capital of Italy is Rome.": "B",
    "Answer: **B) Rome**": "B",
    "I choose B.": "B",
    "The correct option is: C": "C",
    "{'answer': 'Bern'}": "C",
    "B, because A and C are not in Italy.": "B",
    "I would go with Rome": "B",
    "Answer: Option (B): Rome": "B",
    "<think>A? C?</think>B": "B",
    "The answer is not A but B.": "B",
    "\\(\\boxed{B}\\)": "B",
    "(A) is in Norway.\n(B) is in Italy.\nSo the answer is (B).": "B",
}
NOT_CHOSEN = [
    "A or B",
    "A and C",
    "neither",
    "Answer: A or B",
    "Answer: A, B",
    "Answer: B. Oslo",
    "Not Oslo.",
    "Rome (A)",
    "B?",
    "Answer: anything but B",
    "It isn\u2019t Rome",
    "Answer: 2",
    "Answer: I rule out B",
    "A train leaves",
    "Answer: not A",
    "Answer: Neither A nor B",
    "It could be A.",
    "Answer: A? No. B.",
    "Choose between A and B.",
    "<think>A",
    "Paris",
    "Answer: D",
    "Rome and Bern",
    "B is incorrect",
    "It isn't Rome.",
    "Everyone says Oslo, but it is Rome.",
    "Answer: the second",
    "A: no\nB: yes",
]


@pytest.mark.parametrize("text", CHOSEN)
def test_an_option_is_read_by_label_and_by_text(text):
    assert chosen(text) == CHOSEN[text]


@pytest.mark.parametrize("text", NOT_CHOSEN)
def test_what_names_no_option_alone_chooses_none(text):
    assert chosen(text) is None


@pytest.mark.parametrize(
    ("texts", "text", "label"),
    [
        (("Red", "Red and blue"), "Red and blue", "B"),
        (("Red", "Red and blue"), "It is red and blue.", "B"),
        (("Red", "Red and blue"), "Red", "A"),
        (("B", "A"), "B", None),
        (("B", "A"), "(B)", "B"),
        (("B", "A"), "Option B", "B"),
        (("10", "100"), "100", "B"),
        (("10", "100"), "The answer is 10.", "A"),
        (("1.5", "1"), "1.5", "A"),
        (("New York", "York"), "New York", "A"),
        (("x", "x"), "x", None),
        (("None of the above", "Oslo"), "None of the above", "A"),
        (("not a dog", "a dog"), "not a dog", "A"),
        (("It is not true", "It is true"), "It is not true", "A"),
        (("$5", "$10"), "$10", "B"),
        (("yes", "no"), "no", "B"),
        (("A", "B"), "A", "A"),
        (("both", "neither"), "neither", "B"),
        (("A or B", "C"), "A or B", "A"),
    ],
)
def test_texts_of_options_that_hold_one_another(texts, text, label):
    assert chosen(text, texts) == label


@given(
    st.permutations(range(3)),
    st.sampled_from(["{} or {}", "{} and {}", "{}/{}", "both {} and {}", "either {} or {}"]),
    st.sampled_from(["{}", "Answer: {}", "The answer is {}.", "It is {}"]),
    st.booleans(),
)
def test_two_options_are_no_choice(order, joined, said, by_text):
    names = [CITIES[at] if by_text else "ABC"[at] for at in order]
    assert chosen(said.format(joined.format(*names[:2]))) is None


@given(
    st.sampled_from(range(3)),
    st.sampled_from(
        [
            "{}",
            "({})",
            "{}.",
            "{})",
            "**{}**",
            "Option {}",
            "[{}]",
            "\\boxed{{{}}}",
            "\\text{{{}}}",
            "Answer: {}",
            "The answer is {}.",
            '{{"answer": "{}"}}',
            "final answer: **{}**",
            "#### {}",
        ]
    ),
    st.sampled_from(["label", "lower", "text", "upper"]),
)
def test_a_choice_is_read_in_every_form(at, form, how):
    name = {"label": "ABC"[at], "lower": "abc"[at], "text": CITIES[at], "upper": CITIES[at].upper()}[how]
    assert chosen(form.format(name)) == "ABC"[at]


# -- programs

MAIN, HELPER = "def f(x):\n    return sq(x) + 1", "def sq(x):\n    return x * x"
AROUND = [
    "```python\nprint(f(2))\n```",
    "```python\nassert f(2) == 5\n```",
    '```json\n{"f": 5}\n```',
    "```\n5\n```",
    "```bash\npython f.py\n```",
    "~~~text\nf is done\n~~~",
    "It holds.",
]


def fenced(source, fence="```", tag="python", indent=""):
    lines = [f"{fence}{tag}", *source.splitlines(), fence]
    return "\n".join(indent + line for line in lines)


@given(
    st.lists(st.sampled_from(AROUND), max_size=4),
    st.booleans(),
    st.sampled_from(["```", "~~~", "````"]),
    st.sampled_from(["python", "py", "Python3", ""]),
    st.sampled_from(["", "   "]),
)
def test_the_block_that_defines_the_function_is_taken_with_its_helper(around, apart, fence, tag, indent):
    blocks = [HELPER, MAIN] if apart else [f"{HELPER}\n\n{MAIN}"]
    text = "\n\n".join(["Here:", *(fenced(block, fence, tag, indent) for block in blocks), *around])
    found = program_of(text, "f").source
    assert found is not None
    scope: dict[str, object] = {}
    exec(compile(ast.parse(found), "f.py", "exec"), scope)
    assert scope["f"](2) == 5
    assert "assert" not in found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python\nclass Solution:\n    def f(self, x):\n        return x\n```", "no block of it defines f"),
        ("```python\nprint(1)\n```", "no block of it defines f"),
        ("```json\n{}\n```", "no Python program"),
        ("```python\ndef f(x):\n    return x\n```\nBetter:\n```python\ndef f(x):\n    return [x for", "does not parse"),
        ("no program", "no Python program"),
    ],
)
def test_a_reply_without_the_function_holds_no_program(text, error):
    found = read(text, CODE, Sought(entry_point="f"))
    assert found.value is None
    assert error in found.error


def test_a_program_that_is_run_is_the_last_block_that_does_something():
    assert (
        program_of('```python\nprint(6*7)\n```\nIt prints:\n```\n42\n```\n```json\n{"a": 1}\n```').source
        == "print(6*7)"
    )
    apart = program_of("```python\nimport math\ndef g(): return math.pi\n```\nthen\n```python\nprint(g())\n```").source
    assert apart is not None
    assert apart.startswith("import math")


# -- values, thoughts


def test_values_are_read_each_by_itself():
    assert read('{"mean": 2.5}', VALUES).value == '{"mean":"2.5"}'
    assert read("{'mean': 2.5, 'sd': \"low\",}", VALUES).value == '{"mean":"2.5","sd":"low"}'
    assert read('{"mean": 1, "sd": 2}\nDone, e.g. {"x": 1}', VALUES).value == '{"mean":"1","sd":"2"}'
    assert read('{"mean": 2.5, "mean": 3}', VALUES).value is None, "said twice in two ways"
    assert read('{"mean": null}', VALUES).value is None


REPLIES = [
    (NUMBER, "Answer: 5"),
    (BOOLEAN, "No."),
    (WORD, "Answer: apple"),
    (CODE, "```python\nx = 1\n```"),
    (Schema(), "a text"),
    (VALUES, '{"mean": 1}'),
    (options()[0], "(B)"),
]
TAGS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<THINK>", "</THINK>"),
]
THOUGHTS = st.sampled_from(
    ["Perhaps 6. Answer: 6", "yes", "(C)", "```python\ny = 2\n```", '{"mean": 9}', "Answer: pear"]
)


@given(st.sampled_from(REPLIES), st.sampled_from(TAGS), THOUGHTS)
def test_thoughts_are_no_answer_and_a_thought_cut_off_leaves_none(asked, tags, thought):
    schema, reply = asked
    plain = read(reply, schema).value
    assert plain is not None
    assert read(f"{tags[0]}{thought}{tags[1]}\n{reply}", schema).value == plain
    assert read(f"{tags[0]}{thought}", schema).value is None
    assert read(f"{reply}\n{tags[0]}{thought}", schema).value is None, "it was about to say something else"


def test_objects_are_read_outside_thoughts_with_tolerance_of_form():
    assert read_object('<think>{"block": "a"}</think>{"block": "b",}') == {"block": "b"}
    assert read_object("{'block': 'b'}") == {"block": "b"}
    assert read_object('<think>{"block": "a"}') is None


@given(st.text(max_size=120), st.sampled_from([NUMBER, BOOLEAN, WORD, CODE, VALUES, Schema(), options()[0]]))
def test_no_reply_breaks_a_reader(text, schema):
    found = read(text, schema, Sought(choices=CITIES) if schema.kind == "option" else Sought())
    assert (found.value is None) == bool(found.error)
    found = read(f"Answer: {text}\n\\boxed{{{text}}}", schema)
    assert (found.value is None) == bool(found.error)
