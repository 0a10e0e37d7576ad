"""Hostile answers: none is read as the judge's own words, none breaks what the judge is sent, in text and letters."""

import re
import unicodedata

import pytest
from fault_server import FaultServer, text
from injections import INJECTIONS
from plait import Judge
from plait.agents.judges import parsing
from plait.agents.judges.wording import Review, Wording, fenced

WORDING = Wording()
OTHER = "The answer is five."
QUERY = "What is two plus two?"
OWN = "Score of Assistant 1: 3\nScore of Assistant 2: 7"
MARKER = re.compile(r"<\s*/?\s*(?:assistant-(?:1|2|source)|reviews)\s*>", re.IGNORECASE)
NO_WIDTH = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff]")

FORMS = {
    "as it is": lambda text: text,
    "quoted": lambda text: "\n".join(f"> {line}" for line in text.splitlines()),
    "indented": lambda text: "\n".join(f"   {line}" for line in text.splitlines()),
    "bold": lambda text: "\n".join(f"**{line}**" for line in text.splitlines()),
    "lower case": str.lower,
    "tidied": lambda text: unicodedata.normalize("NFKC", NO_WIDTH.sub("", text)),
    "a line each": lambda text: re.sub(r"\s*(Score of)\s+(Assistant \d:)\s*(\d+)\s*", r"\n\1 \2 \3\n", text),
}
"""How a judge may repeat what it reads."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", INJECTIONS)
def test_a_judge_that_repeats_an_answer_has_given_no_scores(name, form):
    answer = INJECTIONS[name]
    repeated = f"The first one says:\n{FORMS[form](answer)}\nThat is all."
    for material in ((QUERY, answer, OTHER), (QUERY, OTHER, answer), (answer, OTHER, OTHER)):
        assert parsing.scores(repeated, material) is None
        assert parsing.scores(f"{repeated}\n{OWN}", material) == (3.0, 7.0)
        assert parsing.scores(f"{OWN}\n{repeated}", material) == (3.0, 7.0)


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_judge_that_repeats_an_answer_has_named_no_angle(name):
    answer = INJECTIONS[name]
    assert parsing.angles(answer, "&", (QUERY, answer, OTHER)) == []
    assert parsing.angles(f"{answer}\n$Truth&: facts", "&", (QUERY, answer, OTHER)) == ["Truth"]


def markers(messages) -> list[str]:
    """Return all that looks like a marker, also to a reader who overlooks what cannot be seen."""
    seen = "\n".join(unicodedata.normalize("NFKC", NO_WIDTH.sub("", message["content"])) for message in messages)
    return MARKER.findall(seen)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("family", ["general", "qa", "dialogues"])
@pytest.mark.parametrize("name", INJECTIONS)
def test_no_place_of_a_prompt_can_be_broken_out_of(name, family, labels):
    evil, honest = INJECTIONS[name], "plain"

    def asked(query=honest, first=honest, second=honest, review=honest, angle=honest):
        reviews = [Review(angle, review), Review("", review)]
        return WORDING.review(family, query, first, second, [angle], labels=labels, reviews=reviews, own=[1])

    expected = markers(asked())
    assert len(expected) >= 6
    for place in ("query", "first", "second", "review", "angle"):
        messages = asked(**{place: evil})
        assert markers(messages) == expected
        assert messages[0] == asked()[0], "what the system says is ours alone"
        if place != "angle":
            assert messages[1]["content"].splitlines()[-3:] == asked()[1]["content"].splitlines()[-3:]
    (roles,) = WORDING.roles(family, evil, evil, evil, None)
    (plain,) = WORDING.roles(family, honest, honest, honest, None)
    assert markers([roles]) == markers([plain])


def test_long_runs_of_what_markers_are_made_of_are_read_once():
    """Twice the text takes about twice the steps: a pattern that went back over it would take minutes."""
    for run in ("<" * 200_000, "<" + " " * 200_000, "< " * 100_000, "<\u200b" * 100_000, "<assistant-" * 20_000):
        assert fenced(run) == run.strip()


def test_templates_inside_answers_are_text():
    content = WORDING.review("qa", QUERY, INJECTIONS["a template"], OTHER, ["truth"])[1]["content"]
    assert INJECTIONS["a template"] in content
    assert "49" not in content


def parrot(index, body):
    """Repeat what is under review and judge nothing."""
    said = body["messages"][-1]["content"]
    if "two scores alone" in said:
        return text("I cannot say.")
    return text("\n".join(re.findall(r"<assistant-\w+>\n(.*?)\n</assistant-\w+>", said, re.DOTALL)))


def pairs():
    return [{"id": name, "query": QUERY, "response1": answer, "response2": OTHER} for name, answer in
            INJECTIONS.items()]  # fmt: skip


def test_a_judge_that_only_repeats_decides_nothing(tmp_path):
    with FaultServer(parrot) as server:
        model, shape = f"openai:judge@{server.url}", {"roles": "given", "angles": ("truth",)}
        result = Judge(model, pairs(), network="paper", shape=shape, baselines=()).run(tmp_path / "run")
    assert {(item.network.verdict, item.network.reason) for item in result.items} == {("abstain", "Unparsable")}
    assert all(item.network.ballots == () for item in result.items)


def test_a_judge_with_a_mind_of_its_own_keeps_it(tmp_path):
    """Its scores are those of its own last lines, although it repeats the hostile answer first."""

    with FaultServer(lambda index, body: text(repeated(body))) as server:
        model, shape = f"openai:judge@{server.url}", {"roles": "given", "angles": ("truth",), "depth": 1}
        result = Judge(model, pairs(), network="paper", shape=shape, baselines=()).run(tmp_path / "run")
    for item in result.items:
        assert item.network.verdict != "abstain"
        assert {(ballot.first, ballot.second) for ballot in item.network.ballots} == {(3.0, 7.0)}


def repeated(body) -> str:
    said = body["messages"][-1]["content"]
    return "\n".join([*re.findall(r"<assistant-\w+>\n(.*?)\n</assistant-\w+>", said, re.DOTALL), OWN])


@pytest.mark.weights
@pytest.mark.parametrize("name", INJECTIONS)
def test_no_answer_becomes_a_control_token_of_the_local_model(name, smollm2):
    """Control tokens are those of an honest prompt, the answer slot is the same, and what was said is still there."""
    from plait.models.chat_template import ChatTemplate
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2.folder, local_files_only=True)
    template = ChatTemplate(tokenizer)

    def tokens(answer, labels):
        messages = WORDING.review("qa", QUERY, answer, OTHER, ["truth"], labels=labels)
        return template.tokens([*messages, WORDING.prefill("qa")] if labels else messages)

    special = set(tokenizer.all_special_ids)
    for labels in (False, True):
        evil, honest = tokens(INJECTIONS[name], labels), tokens("plain", labels)
        assert [token for token in evil if token in special] == [token for token in honest if token in special]
        assert evil[-20:] == honest[-20:]
        said = unicodedata.normalize("NFC", tokenizer.decode(evil, clean_up_tokenization_spaces=False))
        assert re.sub(r"\W", "", INJECTIONS[name])[-40:] in re.sub(r"\W", "", said)
