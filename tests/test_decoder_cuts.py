"""Cuts of a decoder: their text, their parameters, their weights; searches over them; distillation."""

import copy
import math
import random

import pytest
import torch
from plait.decoder_cuts import DecoderCut, DecoderSizes
from plait.errors import DataError, SourceError, SpecError
from plait.models.cut_distill import Distillation, distil, last_states, sequence_nats, windows
from plait.models.cut_scorer import CutData, CutScorer
from plait.models.decoder_cut import CUT_FILE, calibrate, cut_model, load_cut, load_model, save_cut, sizes_of
from plait.records import Failed, Request, Scored, generator
from plait.search.cut_policy import CutPolicy
from plait.search.cut_space import CutSpace
from plait.search.random_search import RandomSearch
from transformers import LlamaConfig, LlamaForCausalLM, OlmoeConfig, OlmoeForCausalLM, Qwen2Config, Qwen2ForCausalLM

SMOLLM2 = DecoderSizes(30, 1536, 1728, 885_888, 28_312_128)
SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 5, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MAKERS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "untied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "biases": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, mlp_bias=True, attention_bias=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
}
FULL = tuple((index, 64) for index in range(5))
MIXED = DecoderCut(((0, 64), (2, 32), (4, 48)))
EVEN = DecoderCut(((0, 32), (1, 32), (4, 32)))
CHANNELS = [list(range(64))[::-1]] * 5


def tiny(family="llama"):
    torch.manual_seed(0)
    model = MAKERS[family]().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def tokens(count=6, length=16, seed=0):
    return torch.randint(0, 97, (count, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("text", ["0-1:1536,4:768", "0:8", "0-3:8,4-5:16,7:8"])
def test_a_cut_is_its_text(text):
    assert DecoderCut.parse(text).key == text


def test_blocks_named_one_by_one_are_the_same_cut():
    assert DecoderCut.parse("0:8, 1:8,2:8") == DecoderCut.parse("0-2:8")


@pytest.mark.parametrize("text", ["", "0", "3-1:8", "1:8,0:8", "0:8,0:8", "0:0", "0-99999999:8", "a:8"])
def test_a_text_that_is_no_cut_is_refused(text):
    with pytest.raises(SpecError, match="decoder cut"):
        DecoderCut.parse(text)


@pytest.mark.parametrize("family", MAKERS)
def test_parameters_are_those_of_the_cut_model(family):
    model = tiny(family)
    sizes = sizes_of(model)
    for cut in (sizes.full, MIXED, EVEN):
        made = cut_model(model, cut, CHANNELS)
        assert sizes.params(cut) == sum(parameter.numel() for parameter in made.parameters())


@pytest.mark.parametrize("family", MAKERS)
def test_a_cut_that_cuts_nothing_changes_no_bit(family):
    model, ids = tiny(family), tokens()
    assert torch.equal(cut_model(model, DecoderCut(FULL), CHANNELS)(ids).logits, model(ids).logits)


def test_a_dropped_block_is_the_model_without_it():
    model, ids = tiny(), tokens()
    before = copy.deepcopy(model.state_dict())
    twin = copy.deepcopy(model)
    twin.model.layers = torch.nn.ModuleList([twin.model.layers[index] for index in (0, 2, 3, 4)])
    cut = DecoderCut(tuple(block for block in FULL if block[0] != 1))
    assert torch.equal(cut_model(model, cut, CHANNELS)(ids, use_cache=False).logits, twin(ids, use_cache=False).logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_narrow_block_is_the_block_with_the_other_channels_silent():
    model, ids = tiny("biases"), tokens()
    twin = copy.deepcopy(model)
    twin.model.layers[2].mlp.down_proj.weight[:, :40] = 0  # CHANNELS keeps the last ones first
    cut = DecoderCut(tuple((index, 24 if index == 2 else 64) for index in range(5)))
    assert torch.allclose(cut_model(model, cut, CHANNELS)(ids).logits, twin(ids).logits, atol=1e-5)


def test_a_cut_model_generates_with_its_cache():
    model = cut_model(tiny(), EVEN, CHANNELS)
    ids = tokens(1, 5)
    step = model.generate(ids, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    for _ in range(4):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(step, ids)


@pytest.mark.parametrize("cut", ["0-5:64", "0-4:65"])
def test_a_cut_of_another_model_is_refused(cut):
    with pytest.raises(SpecError, match="blocks 0 to 4 of at most 64"):
        cut_model(tiny(), DecoderCut.parse(cut), CHANNELS)


def test_a_model_without_a_feed_forward_layer_to_narrow_is_refused():
    model = OlmoeForCausalLM(OlmoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2))
    with pytest.raises(SpecError, match="gate_proj"):
        sizes_of(model)


def test_calibration_finds_the_idle_block_and_the_silent_channel():
    model = tiny()
    for part in (model.model.layers[3].self_attn.o_proj, model.model.layers[3].mlp.down_proj):
        part.weight.zero_()
    model.model.layers[1].mlp.down_proj.weight[:, 7] = 0
    found = calibrate(model, tokens())
    assert found.influence.index(min(found.influence)) == 3
    assert found.influence[3] < 1e-6 < min(found.influence[:3])
    assert found.channels[1][-1] == 7
    assert all(sorted(order) == list(range(64)) for order in found.channels)
    assert calibrate(model, tokens(), batch=2).channels == found.channels


def test_block_influence_is_one_minus_the_cosine():
    model, ids = tiny(), tokens()
    states = model(ids, output_hidden_states=True).hidden_states
    cosine = torch.cosine_similarity(states[1], states[2], dim=-1).mean()
    assert calibrate(model, ids).influence[1] == pytest.approx(1 - float(cosine), abs=1e-5)


@pytest.mark.parametrize("family", MAKERS)
def test_a_cut_of_one_width_is_a_plain_folder(family, tmp_path):
    from transformers import AutoModelForCausalLM

    model, ids = cut_model(tiny(family), EVEN, CHANNELS), tokens()
    save_cut(model, EVEN, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="sdpa").eval()
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.config.num_hidden_layers == 3
    assert not (tmp_path / CUT_FILE).exists()


@pytest.mark.parametrize("family", MAKERS)
def test_a_cut_of_several_widths_is_loaded_by_its_own_loader_or_padded(family, tmp_path):
    model, ids = cut_model(tiny(family), MIXED, CHANNELS), tokens()
    save_cut(model, MIXED, tmp_path / "own")
    assert torch.equal(load_cut(tmp_path / "own")(ids).logits, model(ids).logits)
    save_cut(model, MIXED, tmp_path / "padded", padded=True)
    padded = load_model(tmp_path / "padded")
    assert {layer.mlp.gate_proj.out_features for layer in padded.model.layers} == {64}
    assert torch.allclose(padded(ids).logits, model(ids).logits, atol=1e-5)


def test_a_folder_of_several_widths_does_not_load_as_a_plain_one(tmp_path):
    """What `save_cut` says of such folders; should transformers learn it, the padding can go."""
    save_cut(cut_model(tiny(), MIXED, CHANNELS), MIXED, tmp_path)
    with pytest.raises((RuntimeError, SourceError)):
        load_model(tmp_path)


def test_widths_that_do_not_fit_the_weights_are_refused(tmp_path):
    save_cut(cut_model(tiny(), MIXED, CHANNELS), MIXED, tmp_path)
    (tmp_path / CUT_FILE).write_text('{"widths": [64, 32, 32]}')
    with pytest.raises(SourceError, match="fit together"):
        load_cut(tmp_path)


class Words:
    """A tokenizer that gives one token a letter."""

    def __call__(self, text, add_special_tokens):
        assert add_special_tokens is False
        return {"input_ids": [ord(letter) % 97 for letter in text]}


def test_windows_hold_the_texts_one_after_another():
    found = windows(Words(), ["abcd", "efgh"], 4, 3, "fit")
    assert found.flatten().tolist() == Words()("abcd\n\nefgh\n\n", False)["input_ids"]
    with pytest.raises(DataError, match="text for fit: got '12 tokens', expected 16: 4 windows of 4"):
        windows(Words(), ["abcd", "efgh"], 4, 4, "fit")


def test_nats_are_those_of_the_model():
    model, ids = tiny(), tokens()
    expected = [float(model(row[None], labels=row[None]).loss) * 15 for row in ids]
    assert sequence_nats(model, ids, batch=4) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_distillation_brings_the_student_nearer_to_the_teacher(loss):
    model, ids = tiny(), tokens(16)
    student = cut_model(model, EVEN, CHANNELS)
    before = copy.deepcopy(student.state_dict())
    losses = distil(student, model, ids, last_states(model, ids), Distillation(rate=3e-3, loss=loss), steps=30, seed=0)
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert not {"model.embed_tokens.weight", "lm_head.weight"} & changed
    assert "model.layers.0.mlp.down_proj.weight" in changed
    assert not any(parameter.requires_grad for parameter in student.parameters())


def test_a_student_that_is_the_teacher_has_nothing_to_learn():
    model, ids = tiny(), tokens()
    losses = distil(copy.deepcopy(model), model, ids, last_states(model, ids), Distillation(), steps=1, seed=0)
    assert losses == pytest.approx([0], abs=1e-5)


def scorer(model=None, rate=1e-3):
    model = model or tiny()
    data = CutData(
        tokens(8), {"validation": tokens(4, seed=1), "test": tokens(4, seed=2)}, [], calibrate(model, tokens())
    )
    return CutScorer(model, None, "hash", data, Distillation(rate=rate))


def asked(cut="0:64,2:32,4:48", steps=0, seed=0, splits=("validation",)):
    return Request(cut, {"steps": steps, "seed": seed, "splits": list(splits)})


def test_a_scorer_gives_raw_nats_of_the_splits_that_are_asked():
    outcome = scorer().evaluate([asked(splits=("validation", "test"))])[0]
    assert isinstance(outcome, Scored)
    assert set(outcome.values) == {"losses", "validation", "test"}
    model = tiny()
    student = cut_model(model, MIXED, calibrate(model, tokens()).channels)
    assert outcome.values["test"] == {"nats": sequence_nats(student, tokens(4, seed=2)), "tokens": 15}
    assert outcome.cost["tokens_scored"] == 8 * 16


def test_the_same_request_gives_the_same_bits_whatever_was_asked_before():
    first = scorer().evaluate([asked(steps=5)])[0]
    again = scorer().evaluate([asked("0-4:64", 3), asked(), asked(steps=5)])[2]
    assert first.values == again.values
    assert first.values != scorer().evaluate([asked(steps=5, seed=1)])[0].values
    assert first.cost["tokens_trained"] == 5 * 4 * 16


def test_a_loss_that_is_not_finite_is_a_failure_and_the_next_request_goes_on():
    failed, scored = scorer(rate=1e30).evaluate([asked(steps=6), asked()])
    assert isinstance(failed, Failed)
    assert failed.reason == "Diverged"
    assert isinstance(scored, Scored)


@pytest.mark.parametrize("request_", [asked("0-9:64"), asked("nonsense"), asked(splits=("validation", "nowhere"))])
def test_bad_input_is_a_failure(request_):
    outcome = scorer().evaluate([request_])[0]
    assert isinstance(outcome, Failed)
    assert outcome.reason == "BadInput"


def test_the_key_holds_what_values_depend_on():
    spec = scorer().spec
    assert spec != scorer(rate=2e-3).spec
    other = tiny()
    other.model.layers[0].mlp.down_proj.weight[:, 3] = 0  # another order of the channels
    assert spec["data"]["channels"] != scorer(other).spec["data"]["channels"]


LIMIT = int(0.8 * SMOLLM2.params(SMOLLM2.full))
SPACE = CutSpace(SMOLLM2, LIMIT)


def test_every_draw_is_within_the_limit_and_near_it():
    for index in range(200):
        cut = SPACE.draw(generator(0, "test", index))
        SMOLLM2.check(cut)
        assert {0, 29} <= set(cut.kept)
        params = SMOLLM2.params(cut)
        assert LIMIT - 30 * 32 * SMOLLM2.channel <= params <= LIMIT
        assert all(width % 32 == 0 for width in cut.widths)


def test_families_that_need_no_search():
    assert SPACE.most == 8
    order = list(range(30))[::-1]
    assert set(range(30)) - set(SPACE.dropped(order).kept) == set(range(21, 29))
    assert set(SPACE.dropped(order).widths) == {1536}
    even = SPACE.uniform()
    assert even.uniform
    assert len(even.kept) == 30
    assert SMOLLM2.params(even) <= LIMIT < SMOLLM2.params(even) + 30 * 32 * SMOLLM2.channel
    assert len(SPACE.random_blocks(random.Random(0)).kept) == 22


def test_a_low_target_drops_what_it_must():
    space = CutSpace(SMOLLM2, int(0.35 * SMOLLM2.params(SMOLLM2.full)))
    assert space.least > 0
    for index in range(50):
        assert SMOLLM2.params(space.draw(generator(1, "test", index))) <= space.params
    assert SMOLLM2.params(space.uniform()) <= space.params


def test_an_unreachable_target_names_the_smallest_cut():
    smallest = SMOLLM2.params(SPACE.smallest())
    with pytest.raises(SpecError, match=f"{smallest} .* or more"):
        CutSpace(SMOLLM2, smallest - 1)
    assert CutSpace(SMOLLM2, smallest).draw(random.Random(0)) == SPACE.smallest()


def planted(cut):
    """A reward that dislikes losing blocks 3, 11 and 17, and narrow first blocks."""
    gone = {3, 11, 17} - set(cut.kept)
    return -len(gone) - sum(1 - width / 1536 for index, width in cut.blocks if index < 8) / 8


def play(search):
    rewards, odds = [], search.odds() if isinstance(search, CutPolicy) else []
    while not search.done:
        for trial in search.ask(4):
            rewards.append(planted(trial.candidate))
            search.tell(trial, Scored({"reward": rewards[-1]}))
    return rewards, odds


def test_the_policy_learns_which_blocks_to_keep():
    before, after = 0.0, 0.0
    for seed in range(3):
        search = CutPolicy(SPACE, 160, seed)
        rewards, odds = play(search)
        before += sum(rewards[:40])
        after += sum(rewards[-40:])
        assert odds[0] == odds[29] == 0
        assert sum(search.odds()[index] for index in (3, 11, 17)) < sum(odds[index] for index in (3, 11, 17))
    assert after > before
    blind = sum(sum(play(RandomSearch(SPACE, 160, seed))[0][-40:]) for seed in range(3))
    assert after > blind


def test_the_prior_drops_blocks_of_little_influence_first():
    influence = [0.5] * 30
    influence[12] = 0.01
    odds = CutPolicy(SPACE, 8, 0, influence).odds()
    assert odds.index(max(odds)) == 12
    assert sum(odds) == pytest.approx(1)
    with pytest.raises(SpecError, match="one above 0 for each of 30"):
        CutPolicy(SPACE, 8, 0, [0.0] * 30)


def test_the_gradient_is_that_of_the_log_probability():
    search = CutPolicy(SPACE, 8, 0, [0.1 + 0.01 * index for index in range(30)])
    draw = search._drawn()

    def log_probability():
        from plait.search.cut_policy import _softmax

        total = math.log(_softmax(search._count)[draw.count - SPACE.least])
        left = list(SPACE.inner)
        for gone in draw.dropped:
            total += math.log(_softmax([search._scores[index] for index in left])[left.index(gone)])
            left.remove(gone)
        kept = set(range(30)) - set(draw.dropped)
        return total + sum(math.log(_softmax(search._widths[index])[draw.widths[index]]) for index in kept)

    parts = (search._count, search._scores, *search._widths)
    for logits, slope in zip(parts, search._gradient(draw), strict=True):
        for index, value in enumerate(slope):
            logits[index] += 1e-5
            above = log_probability()
            logits[index] -= 2e-5
            below = log_probability()
            logits[index] += 1e-5
            assert value == pytest.approx((above - below) / 2e-5, abs=1e-5)
