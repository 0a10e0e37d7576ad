"""Generation: a request's bits depend on the request alone; the stock model says the same."""

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plait import LayeredDecoder, PlaitError
from plait.models.attention import KVStore
from plait.models.chat import Sampling
from plait.models.generation import BLOCK, Batcher
from plait.models.generation_choice import LabelTree, StopTexts, draw, label_scores
from plait.models.generation_kv import BlockCache, SequenceKV, block_chain
from plait.models.generation_request import GenerationRequest
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
    # A window shorter than a block and one that ends inside the third.
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=5, sliding_window_pattern=2)
    ),
    "gemma3-wide": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=70, sliding_window_pattern=2)
    ),
}
LABELS = {"a": ((5,), (6,)), "b": ((7, 8), (7, 9)), "c": ((7, 8, 11),), "d": ((5, 12),)}
BIG = 1 << 24


def make(family):
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms start at one and biases at zero: make every part matter
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture(scope="module")
def tiny(one_thread):
    return {family: LayeredDecoder(make(family)) for family in FAMILIES}


def text(tokens):
    return "".join(chr(97 + token % 26) for token in tokens)


def batcher(decoder, **options):
    return Batcher(decoder, text, **{"cache_bytes": BIG, **options})


def alone(decoder, requests):
    """Each request by itself in a batcher of its own that keeps nothing: the reference."""
    return [batcher(decoder, cache_bytes=0).run([request])[0] for request in requests]


def requests_of(seed, count):
    """Requests of every kind; many begin alike, so that blocks are shared."""
    rng = random.Random(seed)
    trunk = [rng.randrange(3, 97) for _ in range(140)]
    made = []
    for index in range(count):
        shared, own = rng.choice([0, 20, 31, 32, 33, 64, 96, 130]), rng.randrange(0, 40)
        tokens = tuple(trunk[:shared] + [rng.randrange(3, 97) for _ in range(own)]) or (4,)
        sampling = Sampling(
            rng.choice([0.0, 0.7, 1.5]), rng.choice([1.0, 0.8]), rng.randrange(1, 20), rng.choice([None, index, 3]),
            rng.choice([(), ("q",), ("ab", "x")]),
        )  # fmt: skip
        labels = LABELS if rng.random() < 0.3 else None
        path = rng.choice([None, None, None, (0, 1, 1, 2), (2, 0)])
        made.append(GenerationRequest(tokens, sampling, labels, path))
    return made


@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 9),
    cache=st.sampled_from([0, 7000, 30000, BIG]),
    rows=st.sampled_from([32, 50, 128]),
    active=st.sampled_from([1, 3, 32]),
    kv=st.sampled_from([1, 1 << 30]),
)
def test_batch_mates_order_arrival_and_cache_never_change_a_bit(tiny, family, seed, count, cache, rows, active, kv):
    requests = requests_of(seed, count)
    expected = alone(tiny[family], requests)
    rng = random.Random(seed)
    order = rng.sample(range(count), count)
    running = batcher(tiny[family], cache_bytes=cache, prefill_rows=rows, active=active, kv_bytes=kv)
    numbers, answers = {}, {}
    while order or running.busy:
        for _ in range(rng.randrange(0, 3)):
            if order:
                index = order.pop()
                numbers[running.add(requests[index])] = index
        answers.update({numbers[number]: answer for number, answer in running.step().items()})
    assert [answers[index] for index in range(count)] == expected
    counters = running.counters
    assert counters.sent == sum(len(request.tokens) for request in requests)
    assert counters.sent <= counters.cached + counters.computed


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_follow_earlier_ones_see_them_and_no_later_ones(tiny, family):
    decoder = tiny[family]
    tokens = torch.tensor([random.Random(1).randrange(3, 97) for _ in range(90)])
    kv = KVStore()
    parts = [decoder.forward(tokens[a:b], (0, 1, 2), start=a, kv=kv) for a, b in ((0, 7), (7, 60), (60, 61), (61, 90))]
    assert torch.allclose(torch.cat(parts), decoder.forward(tokens, (0, 1, 2)), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_and_labels_are_those_of_the_stock_model(tiny, family):
    stock = make(family)
    requests = [one for one in requests_of(1, 24) if one.path is None]
    greedy = [GenerationRequest(one.tokens, Sampling(max_tokens=8), one.labels) for one in requests]
    assert any(one.labels for one in greedy)
    for request, answer in zip(greedy, batcher(tiny[family]).run(greedy), strict=True):
        with torch.inference_mode():
            if request.labels is None:
                made = stock.generate(torch.tensor([request.tokens]), max_new_tokens=8, do_sample=False)
                new = made[0, len(request.tokens) :].tolist()
                assert list(answer.tokens) == (new[: new.index(2)] if 2 in new else new)
                continue
            variants = [variant for one in request.labels.values() for variant in one]
            logs = {variant: stock_log(stock, request.tokens, variant) for variant in variants}
        # "c" lies inside "b", and "d" inside "a".
        assert answer.logprobs["b"] == pytest.approx(math.log(math.exp(logs[7, 8]) + math.exp(logs[7, 9])), abs=1e-4)
        assert answer.logprobs["c"] == pytest.approx(logs[7, 8, 11], abs=1e-4)
        first = sum(math.exp(logs[variant]) for variant in [(5,), (6,), (7, 8), (7, 9)])
        assert answer.inside == pytest.approx(first, abs=1e-5)


def stock_log(stock, tokens, variant):
    table = stock(torch.tensor([[*tokens, *variant]])).logits[0].log_softmax(-1)
    return sum(float(table[len(tokens) - 1 + at, token]) for at, token in enumerate(variant))


def test_experts_answer_alike_alone_and_together():
    torch.manual_seed(0)
    decoder = LayeredDecoder(OlmoeForCausalLM(OlmoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2)))
    requests = [GenerationRequest(one.tokens, labels=LABELS) for one in requests_of(2, 6)]
    for answer, reference in zip(batcher(decoder).run(requests), alone(decoder, requests), strict=True):
        assert answer.logprobs == pytest.approx(reference.logprobs, abs=1e-5)


def test_requests_that_begin_alike_compute_the_beginning_once(tiny):
    trunk = tuple(random.Random(0).randrange(3, 97) for _ in range(5 * BLOCK))
    requests = [GenerationRequest((*trunk, *range(3, 13 + i)), Sampling(max_tokens=1)) for i in range(4)]
    running = batcher(tiny["llama"])
    running.run(requests)
    own = sum(10 + i for i in range(4))
    assert running.counters.computed == len(trunk) + own
    assert running.counters.cached == 3 * len(trunk)
    assert running.run(requests[:1])[0].cached == len(trunk)


def test_a_beginning_in_use_outlives_what_was_asked_once(tiny):
    def prompt(seed):
        return GenerationRequest(tuple(random.Random(seed).randrange(3, 97) for _ in range(70)), Sampling(max_tokens=1))

    block = 3 * 2 * 2 * 8 * BLOCK * 4  # layers, keys and values, heads, head_dim, tokens, bytes
    running = batcher(tiny["llama"], cache_bytes=4 * block)
    for seed in (0, 1, 0, 2, 0):
        (answer,) = running.run([prompt(seed)])
    assert answer.cached == 64
    assert running.counters.evicted == 2
    assert running.run([prompt(1)])[0].cached == 0


def test_a_cancelled_request_leaves_and_the_others_go_on(tiny):
    requests = [GenerationRequest((4, 5, i), Sampling(max_tokens=12)) for i in range(3, 8)]
    expected = alone(tiny["llama"], requests)
    running = batcher(tiny["llama"], active=3)
    numbers = [running.add(request) for request in requests]
    answers = running.step()
    assert numbers[1] not in answers
    running.cancel(numbers[1])  # at work
    running.cancel(numbers[4])  # waiting
    while running.busy:
        answers.update(running.step())
    assert answers == {numbers[i]: expected[i] for i in (0, 2, 3)}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (GenerationRequest(()), "prompt: got 'no token'"),
        (GenerationRequest((97,)), "token ids 0 to 96"),
        (GenerationRequest((3,) * 250, Sampling(max_tokens=7)), r"250 \+ 7 tokens.*at most 256"),
        (GenerationRequest((3,) * 254, labels=LABELS), r"254 \+ 3 tokens"),
        (GenerationRequest((3,), Sampling(temperature=-1.0)), "temperature"),
        (GenerationRequest((3,), Sampling(temperature=math.nan)), "temperature"),
        (GenerationRequest((3,), Sampling(top_p=0.0)), "top_p"),
        (GenerationRequest((3,), Sampling(max_tokens=0)), "max_tokens"),
        (GenerationRequest((3,), Sampling(stop=("",))), "stop"),
        (GenerationRequest((3,), labels={"a": ()}), "labels"),
        (GenerationRequest((3,), path=(3,)), "path"),
    ],
)
def test_a_request_that_cannot_run_is_refused_in_a_line(tiny, request_, message):
    with pytest.raises(PlaitError, match=message) as caught:
        batcher(tiny["llama"]).add(request_)
    assert "\n" not in str(caught.value)


def test_an_answer_may_fill_the_context_to_its_last_token(tiny):
    tiny_decoder = LayeredDecoder(make("llama"))
    tiny_decoder.stop_tokens = frozenset()
    answer = batcher(tiny_decoder).run([GenerationRequest((3,) * 200, Sampling(max_tokens=56))])[0]
    assert (len(answer.tokens), answer.finish) == (56, "length")


class TestDraw:
    def test_frequencies_are_the_probabilities(self):
        logits = torch.tensor([0.0, 1.0, 2.0, -math.inf, 1.0])
        counts = Counter(draw(logits, Sampling(2.0, seed=1), index) for index in range(4000))
        chances = (logits / 2).softmax(-1).tolist()
        for token, chance in enumerate(chances):
            assert abs(counts[token] / 4000 - chance) < 4 * math.sqrt(0.25 / 4000)
        assert counts[3] == 0

    @pytest.mark.parametrize("vocabulary", [50, 3000])
    @pytest.mark.parametrize("top_p", [0.001, 0.3, 0.9, 0.999999])
    def test_the_nucleus_is_the_fewest_likeliest_tokens(self, vocabulary, top_p):
        torch.manual_seed(0)
        logits = torch.randn(vocabulary)
        chances, order = logits.softmax(-1).sort(descending=True)
        inside = order[: int((chances.double().cumsum(0) < top_p).sum()) + 1].tolist()
        drawn = {draw(logits, Sampling(1.0, top_p, seed=3), index) for index in range(500)}
        assert drawn <= set(inside)
        assert len(drawn) > 1 or len(inside) == 1

    @pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e30, 1e300])
    def test_no_temperature_is_too_low_or_too_high(self, temperature):
        logits = torch.tensor([1.0, 3.0, 2.0])
        drawn = {draw(logits, Sampling(temperature, seed=2), index) for index in range(60)}
        assert drawn == ({1} if temperature < 1 else {0, 1, 2})

    def test_a_point_at_the_very_top_takes_a_token_of_some_probability(self, monkeypatch):
        class Top:
            def random(self):
                return 1.0

        monkeypatch.setattr("plait.models.generation_choice.generator", lambda *_: Top())
        assert draw(torch.tensor([0.0, 1.0, -math.inf]), Sampling(1.0), 0) == 1

    def test_a_draw_depends_on_seed_and_index_alone(self):
        logits = torch.zeros(1000)
        sampling = Sampling(1.0, seed=5)
        drawn = [draw(logits, sampling, index) for index in range(20)]
        assert drawn[::-1] == [draw(logits, sampling, index) for index in reversed(range(20))]
        assert len(set(drawn)) > 15
        assert drawn != [draw(logits, Sampling(1.0, seed=6), index) for index in range(20)]


class TestStopTexts:
    PIECES = ("Hel", "lo", "\nQ", ":", "é", "<", "/s", ">")

    def decode(self, tokens):
        return "".join(self.PIECES[token] for token in tokens)

    @pytest.mark.parametrize(
        ("stops", "expected"),
        [((), None), (("\nQ:",), "Hello"), (("é<", "o"), "Hell"), (("</s>",), "Hello\nQ:é"), (("nothing",), None)],
    )
    def test_the_first_stop_text_cuts_across_tokens(self, stops, expected):
        assert StopTexts(stops, self.decode).cut(list(range(8))) == expected

    def test_an_answer_is_cut_as_soon_as_the_stop_text_is_whole(self):
        stops = StopTexts(("Q:",), self.decode)
        assert [stops.cut(list(range(n))) for n in range(1, 5)] == [None, None, None, "Hello\n"]


def test_label_scores_by_hand():
    labels = {"x": ((0,), (1,), (0,)), "xy": ((0, 1),), "z": ((2, 0),)}
    tree = LabelTree.of(labels)
    assert tree.rows == ((0,), (2,))
    assert tree.seen.tolist() == [[True, False], [False, True]]
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.4, 0.4]]).log()
    scores, inside = label_scores(labels, tree, logits)
    assert {label: math.exp(log) for label, log in scores.items()} == pytest.approx({"x": 0.75, "xy": 0.4, "z": 0.05})
    assert inside == pytest.approx(0.8)  # "xy" lies inside "x"


def test_keys_and_values_survive_growing(tiny):
    kv = SequenceKV(tiny["llama"], 2, 3)
    parts = torch.randn(2, 2, 1, 2, 20, 8)  # slot, key or value, one, heads, rows, head_dim
    for start in range(0, 20, 4):
        for slot in (0, 1):
            kv.slot = slot
            got = kv.extend(*parts[slot, :, :, :, start : start + 4])
            assert torch.equal(torch.stack(got), parts[slot, :, :, :, : start + 4])
    twin = SequenceKV(tiny["llama"], 2, 3)
    twin.load_rows(kv.copy_rows(0, 8))
    twin.load_rows(kv.copy_rows(8, 20))
    assert torch.equal(twin.copy_rows(0, 20), kv.copy_rows(0, 20))


def test_the_block_cache_keeps_its_budget_and_drops_ends_before_beginnings():
    cache = BlockCache(3 * 400)
    chain = block_chain((0, 1), list(range(4 * BLOCK)), BLOCK)
    for count in (1, 2, 3):
        cache.put(chain[count - 1], torch.zeros(100))
        cache.touch(chain[:count])
    cache.put(b"other", torch.zeros(100))
    assert [key in cache for key in chain] == [True, True, False, False]
    assert (cache.bytes, cache.evicted) == (1200, 1)
    cache.put(b"too large", torch.zeros(1000))
    assert b"too large" not in cache


def test_block_keys_tell_paths_and_beginnings_apart():
    tokens = list(range(3 * BLOCK))
    chain = block_chain((0, 1), tokens, BLOCK)
    assert block_chain((0, 1), [*tokens[:-1], 0], BLOCK)[:2] == chain[:2]
    assert not set(block_chain((1, 0), tokens, BLOCK)) & set(chain)
    assert not set(block_chain((0, 1), [9, *tokens[1:]], BLOCK)) & set(chain)


@pytest.mark.weights
class TestRealModel:
    @pytest.fixture(scope="class")
    def tokenizer(self, smollm2):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(smollm2.folder)

    @pytest.fixture(scope="class")
    def stock(self, smollm2):
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(smollm2.folder, dtype=torch.float32)

    @pytest.fixture(scope="class")
    def prompts(self, tokenizer, questions):
        system = {"role": "system", "content": "Answer in one short sentence. Be exact, calm and polite. " * 4}
        turns = [[system, {"role": "user", "content": question.item()["prompt"]}] for question in questions[:20]]
        return [
            tuple(tokenizer.apply_chat_template(one, add_generation_prompt=True, return_dict=False)) for one in turns
        ]

    @pytest.fixture(scope="class")
    def running(self, real_decoder, tokenizer):
        return Batcher(real_decoder, lambda tokens: tokenizer.decode(list(tokens), skip_special_tokens=True))

    @pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.slow)])
    def test_greedy_texts_are_those_of_the_stock_model(self, running, stock, tokenizer, prompts, count):
        prompts = prompts[:count]
        answers = running.run([GenerationRequest(prompt, Sampling(max_tokens=16)) for prompt in prompts])
        assert running.counters.cached > 0
        for prompt, answer in zip(prompts, answers, strict=True):
            with torch.inference_mode():
                made = stock.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)
            assert answer.text == tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True)

    def test_labels_are_those_of_a_full_forward(self, running, stock, tokenizer, prompts):
        words = ("A", "10", "neither of them")
        labels = {one: tuple(tuple(tokenizer.encode(space + one)) for space in ("", " ")) for one in words}
        answers = running.run([GenerationRequest(prompt, labels=labels) for prompt in prompts[:2]])
        for prompt, answer in zip(prompts, answers, strict=False):
            for label, variants in labels.items():
                with torch.inference_mode():
                    logs = [stock_log(stock, prompt, variant) for variant in variants]
                assert answer.logprobs[label] == pytest.approx(math.log(sum(map(math.exp, logs))), abs=1e-4)

    @settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(seed=st.integers(0, 10**6), cache=st.sampled_from([0, 1 << 22, 1 << 28]))
    def test_batch_mates_never_change_a_bit(self, running, real_decoder, prompts, seed, cache):
        rng = random.Random(seed)
        asked = [
            GenerationRequest(rng.choice(prompts), Sampling(rng.choice([0.0, 1.0]), 0.9, rng.randrange(1, 6), i))
            for i in range(4)
        ]
        expected = [Batcher(real_decoder, text, cache_bytes=0).run([one])[0].tokens for one in asked]
        other = Batcher(real_decoder, text, cache_bytes=cache, prefill_rows=64)
        assert [answer.tokens for answer in other.run(asked)] == expected
        labels = [GenerationRequest(one.tokens, labels=LABELS) for one in asked]
        assert other.run(labels[::-1])[::-1] == [
            Batcher(real_decoder, text, cache_bytes=0).run([one])[0] for one in labels
        ]
