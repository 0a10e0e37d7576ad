"""Prompts and what continues them are tokenised as the one text that they are, with tokenizers of many makes."""

import json

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from plait.errors import SpecError
from plait.models.packing import Packer
from transformers import AutoTokenizer, LlamaForCausalLM

from .many_tokenizers import MAKES, SEAMS, ends_of, folder_of, tokenizer_of, whole_text

pytestmark = pytest.mark.row("A: text cut apart")
PIECES = ["A", "B", " A", " B", " C.", "Paris", " Paris", "(", ")", " (a", ",", " ", "  ", "\n", "\n\n", ":", ": ", "?",
          "42", " 4", "2", "'s", "isn", "'t", "é", "e\u0301", "ß", "東", "京", "Москва", "🙂", "👩‍👩‍👧", "\u200d",
          "\ufe0f", "the", " the", "Answer", "answer:", " not", "-", "…", "ﬁ", "ＡＢ", "<s", "x", "▁",
          "Ġ", "\t"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
PROMPTS = st.one_of(TEXTS.map("Question: Which one?\nAnswer:".__add__), TEXTS)
OPTIONS = st.lists(TEXTS, min_size=1, max_size=4, unique=True)
AMONG = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def joint_parts(packer, prompt, options):
    """Return the shared tokens and each option's, as packed."""
    packed = packer.pack(prompt, options)
    first = min(sources[0] for sources in packed.sources)
    return packed.tokens[: first + 1].tolist(), [list(target) for target in packed.targets], packed


def common(one, other):
    equal = [mine == theirs for mine, theirs in zip(one, other, strict=False)]
    return len(equal) if all(equal) else equal.index(False)


@pytest.mark.parametrize("make", MAKES)
@AMONG
@given(prompt=PROMPTS, options=OPTIONS)
@example("Question: Which?\nAnswer:", [" A", " B", " A B"])
@example("Question: Which?\nAnswer: ", ["A", "AB", "(A)"])
def test_a_prompt_and_an_option_are_the_tokens_of_their_joint_text(make, prompt, options):
    alone = whole_text(make, prompt)
    joints = [whole_text(make, prompt + option) for option in options]
    shared = min(common(alone, joint) for joint in joints)
    adds_nothing = [common(alone, joint) == len(joint) for joint in joints]
    adds_nothing += [not option.strip() for option in options]
    packer = Packer(tokenizer_of(make), 4096)
    if not shared or any(adds_nothing):
        with pytest.raises(SpecError):
            packer.pack(prompt, options)
        return
    head, tails, packed = joint_parts(packer, prompt, options)
    assert head == alone[:shared]
    assert [head + tail for tail in tails] == joints
    for sources, target in zip(packed.sources, packed.targets, strict=True):
        # The rows that predict an option hold the tokens before it, in order.
        assert [int(packed.tokens[row]) for row in sources] == [head[-1], *target[:-1]]
        places = [int(packed.positions[row]) for row in sources]
        assert places == list(range(len(head) - 1, len(head) - 1 + len(target)))


@pytest.mark.parametrize("make", [make for make in MAKES if make not in SEAMS and "Prepend" not in make])
def test_options_with_a_space_leave_the_prompt_whole(make):
    """Where no merge crosses the seam, an option's tokens are the joint text's beyond the whole prompt's."""
    prompt, options = "Question: What is the capital?\nAnswer:", [" Paris", " Rome", " Oslo, of course"]
    head, tails, _ = joint_parts(Packer(tokenizer_of(make), 4096), prompt, options)
    assert head == whole_text(make, prompt)
    assert tails == [whole_text(make, prompt + option)[len(head) :] for option in options]


@pytest.mark.parametrize("make", [make for make in MAKES if ends_of(make)[1]])
def test_nothing_that_a_tokenizer_appends_stands_in_a_sequence(make):
    tokenizer = tokenizer_of(make)
    head, tails, _ = joint_parts(Packer(tokenizer, 4096), "Answer:", [" A", " B"])
    assert tokenizer.eos_token_id not in [*head, *tails[0], *tails[1]]


@pytest.mark.parametrize("make", MAKES)
def test_the_beginning_of_sequence_is_what_was_asked_for(make):
    tokenizer, own = tokenizer_of(make), tokenizer_of(make).encode("Answer:", add_special_tokens=False)
    assert Packer(tokenizer, 99).prompt("Answer:") == whole_text(make, "Answer:")
    assert Packer(tokenizer, 99, "always").prompt("Answer:") == [tokenizer.bos_token_id, *own]
    assert Packer(tokenizer, 99, "never").prompt("Answer:") == own


@pytest.mark.weights
@AMONG
@given(prompt=PROMPTS, options=OPTIONS)
def test_smollm2_takes_joint_texts(smollm2, prompt, options):
    tokenizer = AutoTokenizer.from_pretrained(smollm2.folder)
    alone, joints = tokenizer.encode(prompt), [tokenizer.encode(prompt + option) for option in options]
    if not all(map(str.strip, options)) or any(common(alone, joint) == len(joint) for joint in joints):
        return
    if not min(common(alone, joint) for joint in joints):
        return
    head, tails, _ = joint_parts(Packer(tokenizer, 8192), prompt, options)
    assert [head + tail for tail in tails] == joints


MODELS = ["BPE, Prepend, byte fallback (Llama 2)", "byte-level BPE, end of text appended",
          "BPE, Metaspace first, both ends", "Unigram, NFKC, Metaspace"]  # fmt: skip


def joint_sums(folder, make, prompt, options):
    """Return each option's log-probability by the model itself, over the joint text's tokens."""
    model = LlamaForCausalLM.from_pretrained(folder)
    alone, joints = whole_text(make, prompt), [whole_text(make, prompt + option) for option in options]
    shared, sums = min(common(alone, joint) for joint in joints), []
    for joint in joints:
        with torch.no_grad():
            logs = model(torch.tensor([joint])).logits[0].log_softmax(-1)
        sums.append(sum(float(logs[at - 1, joint[at]]) for at in range(shared, len(joint))))
    return sums


@pytest.mark.parametrize("make", MODELS)
def test_the_score_command_gives_the_joint_texts_numbers(make, plait, tmp_path):
    folder = folder_of(make, tmp_path / "model")
    rows = [
        {"id": str(at), "question": f"What is {at} + 1?", "choices": [str(at), "Paris", "A, B or C"], "answer": 1}
        for at in range(6)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = plait("score", "--model", folder, "--data", "data.jsonl", "--out", "scores.jsonl")
    assert code == 0, err
    for row, scored in zip(rows, map(json.loads, (tmp_path / "scores.jsonl").read_text().splitlines()), strict=True):
        prompt = f"Question: {row['question']}\nAnswer:"
        expected = joint_sums(folder, make, prompt, [f" {choice}" for choice in row["choices"]])
        assert scored["sums"] == pytest.approx(expected, abs=1e-3)
        assert scored["by_sum"] == expected.index(max(expected))


TEMPLATE = (
    "{% for message in messages %}{{ '<s>' + message['role'] + '\\n' + message['content'] }}"
    "{% if not loop.last or message['role'] != 'assistant' or add_generation_prompt %}{{ '</s>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)
CHATS = [
    [{"role": "user", "content": "Which one, A or B?"}],
    [{"role": "user", "content": "Which one, A or B?"}, {"role": "assistant", "content": "Answer:"}],
]


class TestHosts:
    """What a host reads after a conversation continues the conversation's text."""

    @pytest.fixture(scope="class", params=MODELS)
    def host(self, request, tmp_path_factory):
        from concurrent.futures import ThreadPoolExecutor

        from plait.models.decoder import LayeredDecoder
        from plait.models.host_generation import HostGeneration

        folder = folder_of(request.param, tmp_path_factory.mktemp("host") / "model", template=TEMPLATE)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return HostGeneration(LayeredDecoder.load(folder), tokenizer, ThreadPoolExecutor(1), 1 << 20), tokenizer

    @pytest.mark.parametrize("messages", CHATS)
    def test_a_letter_is_the_tokens_that_follow_the_conversation(self, host, messages):
        generation, tokenizer = host
        begun = messages[-1]["role"] == "assistant"
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=not begun, continue_final_message=begun
        )
        request = generation.label_request({"messages": messages, "labels": ["A", "B"]})
        assert list(request.tokens) == tokenizer.encode(text, add_special_tokens=False)
        for label, (plain, spaced) in request.labels.items():
            for said, tokens in ((label, plain), (f" {label}", spaced)):
                joint = tokenizer.encode(text + said, add_special_tokens=False)
                if joint[: len(request.tokens)] == list(request.tokens):
                    assert list(tokens) == joint[len(request.tokens) :]

    def test_an_answer_keeps_the_space_it_opens_with(self, host):
        generation, tokenizer = host
        text = "The answer is: A B"
        tokens, head = (tokenizer.encode(part, add_special_tokens=False) for part in (text, text.removesuffix(" A B")))
        if tokens[: len(head)] != head:
            pytest.skip("a merge crosses the seam")
        assert generation._text(tokens[len(head) :]) == " A B"

    def test_a_message_that_spells_control_tokens_is_one_text_with_them(self, host):
        generation, tokenizer = host
        honest = [{"role": "user", "content": "Which one?"}, {"role": "assistant", "content": "This"}]
        spelled = [{"role": "user", "content": "Which </s> one?"}, {"role": "assistant", "content": "This"}]
        expected = tokenizer.encode("<s>assistant\nThis", add_special_tokens=False)
        for messages in (honest, spelled):
            tokens = list(generation.prompt(messages))
            assert tokens[len(tokens) - len(expected) :] == expected
            assert tokens.count(tokenizer.eos_token_id) == 1


class TestTextWindows:
    """Texts that a student is measured on are tokens of the text that they make together."""

    @pytest.mark.parametrize("make", [make for make in MAKES if MAKES[make].kind != "wordpiece"])
    def test_windows_are_cut_from_the_joint_text(self, make):
        from plait.models.cut_distill import windows

        tokenizer, texts = tokenizer_of(make), ["The first one.", "Answer: A", "Paris, of course.", "The fox."] * 6
        joint = tokenizer.encode("".join(f"{text}\n\n" for text in texts), add_special_tokens=False)
        length, count = 16 + ends_of(make)[0], 8
        rows = windows(tokenizer, texts, length, count, "fit").tolist()
        assert [token for row in rows for token in row[ends_of(make)[0] :]] == joint[: 16 * count]
        assert all(row[: ends_of(make)[0]] == [tokenizer.bos_token_id][: ends_of(make)[0]] for row in rows)
