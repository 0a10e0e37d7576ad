"""Models from outside: what was loaded is not believed but compared; what cannot be right is one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from plait.tests.hub_server import REPOSITORY, Hub, serving
from safetensors.torch import load_file, save_file

from . import HELD

WORDS = ["<unk>", "<s>", "</s>", *(f"word{number}" for number in range(61))]
SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def tokenizer_into(folder: Path, words=WORDS) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Make a tiny model of a family once; return its folder."""
    made: dict[str, Path] = {}

    def make(family: str = "llama", **settings) -> Path:
        from transformers import CONFIG_MAPPING, AutoModelForCausalLM

        key = json.dumps([family, settings], sort_keys=True)
        if key not in made:
            torch.manual_seed(0)
            folder = tmp_path_factory.mktemp("whole") / family
            config = CONFIG_MAPPING[family](**{**SIZES, **settings})
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            tokenizer_into(folder)
            made[key] = folder
        return made[key]

    return make


@pytest.fixture
def edited(whole, tmp_path):
    """Return a copy of a tiny model whose tensors and config were changed by a function of both."""

    def edit(change=None, family="llama", **settings) -> Path:
        folder = tmp_path / f"edited-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(whole(family, **settings), folder)
        if change is not None:
            tensors = load_file(folder / "model.safetensors")
            config = json.loads((folder / "config.json").read_text())
            change(tensors, config)
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            (folder / "config.json").write_text(json.dumps(config))
        return folder

    return edit


@pytest.fixture
def command(tmp_path):
    """Run the command line in a process of its own; return (exit code, stdout, stderr)."""
    home = tmp_path / "home"

    def run(*arguments, stdin: str = "", **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PLAIT_"))}
        environment |= {"PLAIT_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), **variables}
        done = subprocess.run(
            [sys.executable, "-m", "plait.orchestrator.cli", *map(str, arguments)],
            env=environment, cwd=tmp_path, input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    run.home = home
    return run


@pytest.fixture
def questions(tmp_path) -> Path:
    rows = [
        {"id": f"q{number}", "question": f"word{number} word7 word9", "choices": ["word3", "word4"], "answer": 0}
        for number in range(3)
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def refused(plait, monkeypatch, tmp_path, questions):
    """Check that `models pull`, `models show` and `score` refuse a model in one line that says all of `words`."""
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))

    def check(source, *words, code=2, kept=True):
        out = tmp_path / "scores.jsonl"
        for arguments in (
            ("models", "pull", source),
            ("models", "show", source),
            ("score", "--model", source, "--data", questions, "--out", out),
        ):
            if arguments[1] == "show" and not Path(str(source)).is_dir():
                continue  # what was never pulled is told so
            status, said, err = plait(*arguments)
            assert status == code, (arguments, status, said, err)
            lines = [line for line in err.splitlines() if line.strip()]
            told = [line for line in lines if line.startswith("plait: ")]
            assert len(told) == 1, err
            assert "Traceback" not in err
            for word in words:
                assert word in err, (word, err)
        assert not out.exists()
        if kept:
            home = tmp_path / "home"
            assert not [*home.glob("models/*"), *home.glob("folders/*"), *home.glob("tmp/*"), *home.glob("derived/*")]

    return check


def lacking(*keys):
    def change(tensors, config):
        for key in keys:
            del tensors[key]

    return change


def layers(number):
    return lambda tensors, config: config.update(num_hidden_layers=number)


def without_layer(*which):
    def change(tensors, config):
        for key in [key for key in tensors if key.split(".")[1] == "layers" and int(key.split(".")[2]) in which]:
            del tensors[key]

    return change


def misshapen(tensors, config):
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.randn(40, 32)


def extra(tensors, config):
    tensors["model.layers.1.self_attn.q_proj.bias"] = torch.randn(32)


def prefixed(tensors, config):
    for key in list(tensors):
        tensors[f"language_model.{key}"] = tensors.pop(key)


def eight_bits(tensors, config):
    key = "model.layers.2.mlp.up_proj.weight"
    tensors[key] = (tensors[key] * 100).to(torch.int8)


def eight_bit_floats(tensors, config):
    key = "model.layers.2.mlp.up_proj.weight"
    tensors[key] = (tensors[key] * 100).to(torch.float8_e4m3fn)


FOLDERS = {
    "a weight": (lacking("model.layers.3.self_attn.q_proj.weight"), "missing model.layers.3.self_attn.q_proj.weight"),
    "a norm": (lacking("model.norm.weight"), "missing model.norm.weight"),
    "the head though untied": (lacking("lm_head.weight"), "missing lm_head.weight"),
    "the embedding": (lacking("model.embed_tokens.weight"), "missing model.embed_tokens.weight"),
    "two layers": (without_layer(1, 2), "lacking 1, 2"),
    "the last layers": (layers(6), "6 layers, the weights hold 4"),
    "layers of the config": (layers(3), "3 layers, the weights hold 4"),
    "a shape": (misshapen, "misshapen model.layers.1.mlp.up_proj.weight [40, 32], expected [48, 32]"),
    "what a bias is for": (extra, "unexpected model.layers.1.self_attn.q_proj.bias"),
    "plain names": (prefixed, "language_model."),
    "floats": (eight_bits, "model.layers.2.mlp.up_proj.weight as I8"),
    "wide floats": (eight_bit_floats, "as F8_E4M3"),
    "a width of the config": (lambda _, config: config.update(intermediate_size=40), "misshapen"),
    "a vocabulary of the config": (lambda _, config: config.update(vocab_size=70), "misshapen"),
}


@pytest.mark.row("A: folder lacks a weight")
@pytest.mark.parametrize("lack", FOLDERS)
def test_a_folder_whose_weights_are_not_its_configs_is_refused(edited, refused, lack):
    change, said = FOLDERS[lack]
    refused(edited(change), said)


@pytest.mark.row("A: folder lacks a weight")
def test_a_tied_head_that_differs_from_the_embedding_is_refused(edited, refused):
    def change(tensors, config):
        tensors["lm_head.weight"] = torch.randn(64, 32)

    refused(edited(change, tie_word_embeddings=True), "tie_word_embeddings", "lm_head.weight")


@pytest.mark.row("A: folder lacks a weight")
@pytest.mark.parametrize("part", ["up", "gate", "down"])
def test_an_expert_that_is_missing_is_named(edited, refused, part):
    key = f"model.layers.1.mlp.experts.2.{part}_proj.weight"
    refused(edited(lacking(key), "olmoe", num_experts=4, num_experts_per_tok=2), key)


@pytest.mark.row("A: folder lacks a weight")
@pytest.mark.parametrize(
    "way",
    ["whole", "tied", "tied, both stored", "base names", "sharded", "another file beside it"],
)
def test_what_is_whole_is_the_stock_model(edited, plait, monkeypatch, tmp_path, questions, way):
    """The other side: every way to store the same model gives the same numbers."""
    from plait.models.decoder import LayeredDecoder
    from transformers import AutoModelForCausalLM

    def change(tensors, config):
        if way == "tied, both stored":
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        if way == "base names":
            for key in list(tensors):
                tensors[key.removeprefix("model.")] = tensors.pop(key)

    folder = edited(change, tie_word_embeddings=way not in ("whole", "sharded"))
    if way == "sharded":
        AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
        shutil.rmtree(folder)
        folder = tmp_path / "sharded"
        tokenizer_into(folder)
        assert len(list(folder.glob("*.safetensors"))) > 2
    if way == "another file beside it":
        save_file({"other": torch.ones(3)}, folder / "consolidated.safetensors")
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    status, out, err = plait("models", "pull", folder, "--json")
    assert status == 0, err
    stock = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa")
    assert json.loads(out.splitlines()[-1])["parameters"] == stock.num_parameters()
    tokens = [1, 5, 9, 33, 12, 4, 18]
    with torch.inference_mode():
        expected = stock(torch.tensor([tokens]), use_cache=False).logits[0]
    got = LayeredDecoder.load(folder, min_rows=1).logits(tokens, range(4))
    assert torch.equal(got, expected)


@pytest.mark.row("A: folder lacks a weight")
def test_every_loader_compares_too(edited):
    """A model that an older version believed is in some cache: whoever opens it looks again."""
    from plait.errors import SourceError
    from plait.models.decoder import LayeredDecoder
    from plait.models.decoder_cut import load_cut, load_model

    folder = edited(lacking("model.layers.3.self_attn.q_proj.weight"))
    for load in (LayeredDecoder.load, load_model, load_cut):
        with pytest.raises(SourceError, match=r"missing model\.layers\.3\.self_attn\.q_proj\.weight"):
            load(folder)


def shard(folder: Path) -> list[Path]:
    """Store the model of a folder as two shards and their index."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    placed = {}
    for number, keys in enumerate((names[:20], names[20:]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({key: tensors[key] for key in keys}, folder / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(keys, file)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return sorted(folder.glob("*.safetensors"))


def a_shard_gone(folder, files):
    files[1].unlink()


def stored_twice(folder, files):
    first, second = (load_file(file) for file in files)
    key = next(iter(first))
    save_file({**second, key: torch.zeros_like(first[key])}, files[1], metadata={"format": "pt"})


def index_says_more(folder, files):
    first = load_file(files[0])
    del first["model.layers.0.mlp.up_proj.weight"]
    save_file(first, files[0], metadata={"format": "pt"})


def index_is_a_list(folder, files):
    (folder / "model.safetensors.index.json").write_text("[]")


def index_leads_away(folder, files):
    place = folder / "model.safetensors.index.json"
    place.write_text(place.read_text().replace("model-00002", "../model-00002"))


@pytest.mark.row("A: folder lacks a weight")
@pytest.mark.parametrize(
    ("change", "said"),
    [(a_shard_gone, "lacks model-00002-of-00002.safetensors"), (stored_twice, "stored twice"),
     (index_says_more, "model.layers.0.mlp.up_proj.weight"), (index_is_a_list, "expected a JSON object"),
     (index_leads_away, "lacks ../model-00002")],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_shards_that_are_not_their_index_are_refused(edited, refused, change, said):
    folder = edited()
    change(folder, shard(folder))
    refused(folder, said)


def text(name, content):
    def change(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def gone(*names):
    def change(folder):
        for name in names:
            (folder / name).unlink()

    return change


def entries(**values):
    def change(folder):
        place = folder / "config.json"
        place.write_text(json.dumps({**json.loads(place.read_text()), **values}))

    return change


def cut_short(folder):
    place = folder / "model.safetensors"
    place.write_bytes(place.read_bytes()[:-100])


def cut_in_the_header(folder):
    place = folder / "model.safetensors"
    place.write_bytes(place.read_bytes()[:50])


def adapter(folder):
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x/y"}')


def few_rows(folder):
    tokenizer_into(folder, [*WORDS, "more"])


def link_to_nothing(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "nowhere")


BROKEN = {
    "no tokenizer": (gone("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
    "tokenizer that is no JSON": (text("tokenizer.json", "{"), "tokenizer"),
    "tokenizer_config that is a list": (text("tokenizer_config.json", "[1]"), "tokenizer_config.json"),
    "embedding smaller than the tokenizer's ids": (few_rows, "id 64"),
    "config is no JSON": (text("config.json", "{,"), "config.json"),
    "config is a list": (text("config.json", "[1, 2]"), "expected a JSON object"),
    "config is a number": (text("config.json", "7"), "expected a JSON object"),
    "config is not UTF-8": (text("config.json", b'{"model_type": "\xff\xfe"}'), "config.json"),
    "config without a family": (text("config.json", "{}"), "model_type"),
    "no config": (gone("config.json"), "config.json"),
    "a size that is text": (entries(hidden_size="wide"), "config.json"),
    "no layer": (entries(num_hidden_layers=0), "num_hidden_layers"),
    "heads that do not divide": (entries(num_attention_heads=5), "config.json"),
    "bitsandbytes": (entries(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
                     "bitsandbytes"),
    "GPTQ": (entries(quantization_config={"quant_method": "gptq", "bits": 4}), "gptq"),
    "AWQ": (entries(quantization_config={"quant_method": "awq", "bits": 4}), "awq"),
    "weights cut short": (cut_short, "damaged or cut short"),
    "weights cut in the header": (cut_in_the_header, "damaged or cut short"),
    "weights of no bytes": (text("model.safetensors", b""), "damaged or cut short"),
    "an adapter": (adapter, "adapter"),
    "a link to nothing": (link_to_nothing, "no weights"),
}  # fmt: skip


@pytest.mark.row("A: tracebacks of broken folders")
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_folder_is_one_line(edited, refused, broken):
    change, said = BROKEN[broken]
    folder = edited()
    change(folder)
    refused(folder, said)


UNSUPPORTED = ("mistral", "phi3", "gpt_neox", "gpt2", "olmo2", "smollm3", "lfm2", "gemma2", "gemma3", "mixtral",
               "qwen3_moe", "bert", "no_such_family", None, 7)  # fmt: skip


@pytest.mark.row("A: unsupported family")
@pytest.mark.parametrize("family", UNSUPPORTED)
def test_a_family_is_refused_by_its_config_alone(refused, tmp_path, family):
    folder = tmp_path / "unsupported"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**SIZES, "model_type": family}))
    refused(folder, repr(family), "llama, qwen2, qwen3, gemma3_text, olmoe")


@pytest.mark.row("A: unsupported family")
@pytest.mark.parametrize("why", ["family", "switch", "quantised", "code", "adapter"])
def test_a_hub_is_asked_for_no_weights_of_what_is_refused(command, edited, why):
    folder = edited()
    {
        "family": entries(model_type="mistral"),
        "switch": entries(is_causal=False),
        "quantised": entries(quantization_config={"quant_method": "bitsandbytes"}),
        "code": entries(auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"}),
        "adapter": text("adapter_config.json", "{}"),
    }[why](folder)
    with serving(Hub({file.name: file.read_bytes() for file in sorted(folder.iterdir())})) as hub:
        code, out, err = command("models", "pull", f"hf:{REPOSITORY}", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0",
                                 HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")  # fmt: skip
    assert code == 2, (out, err)
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("plait: ")]) == 1
    assert not [asked for asked in hub.asked if "safetensors" in asked]
    assert not list(command.home.glob("models/*"))


SWITCHES = [
    ("llama", {"is_causal": False}, "is_causal"),
    ("qwen3", {"is_causal": False, "head_dim": 8}, "is_causal"),
    ("gemma3_text", {"use_bidirectional_attention": True, "head_dim": 8}, "use_bidirectional_attention"),
    ("llama", {"final_logit_softcapping": 2.0}, "final_logit_softcapping"),
    ("qwen2", {"final_logit_softcapping": 2.0}, "final_logit_softcapping"),
    ("olmoe", {"sliding_window": 5, "num_experts": 4, "num_experts_per_tok": 2}, "sliding_window"),
    ("llama", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("llama", {"sliding_window": 5}, "sliding_window"),
    ("llama", {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 5}, "layer_types"),
    ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "type": "dynamic", "factor": 2.0}}, "rope_scaling"),
    ("qwen2", {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
                                "original_max_position_embeddings": 8, "factor": 4.0}}, "longrope"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("llama", {"attn_logit_softcapping": 3.0}, "attn_logit_softcapping"),
    ("gemma3_text", {"attn_logit_softcapping": 3.0, "head_dim": 8}, "attn_logit_softcapping"),
    ("llama", {"clip_qkv": 0.1}, "clip_qkv"),
    ("llama", {"residual_multiplier": 0.5}, "residual_multiplier"),
    ("llama", {"logits_scaling": 4.0}, "logits_scaling"),
    ("llama", {"embedding_multiplier": 12.0}, "embedding_multiplier"),
    ("llama", {"hidden_act": "tanh"}, "hidden_act"),
    ("llama", {"no_rope_layers": [1, 0, 1, 0]}, "no_rope_layers"),
]  # fmt: skip


@pytest.mark.row("A: config switches that change the forward pass")
@pytest.mark.parametrize(
    ("family", "values", "said"), SWITCHES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_switch_that_no_test_proved_is_refused(edited, refused, family, values, said):
    """Scored causally, uncapped, unwindowed: numbers that look like numbers."""
    plain = {
        name: value for name, value in values.items() if name in ("head_dim", "num_experts", "num_experts_per_tok")
    }
    folder = edited(None, family, **plain)
    entries(**values)(folder)
    refused(folder, said)


@pytest.mark.row("A: config switches that change the forward pass")
def test_a_switch_is_refused_on_a_model_in_memory_too():
    from plait import LayeredDecoder, PlaitError
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(**SIZES, head_dim=8, use_bidirectional_attention=True)
    with pytest.raises(PlaitError, match="use_bidirectional_attention"):
        LayeredDecoder(Gemma3ForCausalLM(config))


@pytest.mark.row("A: folder with remote code")
@pytest.mark.parametrize("place", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_never_asked_about(command, edited, questions, tmp_path, place):
    folder = edited()
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    named = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model", "AutoTokenizer": ["mine.Words", None]}
    content = json.loads((folder / place).read_text())
    content |= {"auto_map": named}
    if place == "config.json":
        content["model_type"] = "mine"
    else:
        content["tokenizer_class"] = "Words"
    (folder / place).write_text(json.dumps(content))
    for arguments in (("models", "pull", folder), ("score", "--model", folder, "--data", questions, "--out", "x")):
        code, out, err = command(*arguments, stdin="y\ny\ny\n")
        assert code == 2, (out, err)
        assert "Traceback" not in err
        assert "[y/N]" not in out + err
        assert not (tmp_path / "ran").exists()


def rewritten(folder: Path, source: Path, *, keep_times: bool = False) -> None:
    about = folder.stat()
    shutil.copyfile(source, folder)
    if keep_times:
        os.utime(folder, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.row("A: gguf rewritten under the same path")
def test_a_folder_rewritten_with_the_same_size_and_time_is_another_model(edited, whole, plait, monkeypatch, tmp_path):
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    folder = edited()

    def other(tensors, config):
        tensors["model.norm.weight"] = tensors["model.norm.weight"] * 2

    second = edited(other)
    _, first, _ = plait("models", "pull", folder, "--json")
    rewritten(folder / "model.safetensors", second / "model.safetensors", keep_times=True)
    _, again, _ = plait("models", "pull", folder, "--json")
    _, expected, _ = plait("models", "pull", second, "--json")
    hashes = [json.loads(out.splitlines()[-1])["model_hash"] for out in (first, again, expected)]
    assert hashes[0] != hashes[1] == hashes[2]


def gguf_file(place: Path, seed: int = 0, change=None, **fields) -> Path:
    """Write a tiny llama as a GGUF file, by the gguf package."""
    import gguf
    import numpy as np

    generator = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(place, fields.pop("architecture", "llama"))
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(fields.pop("blocks", 4))
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(8)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(64)
    for name, value in fields.items():
        key = f"llama.{name.replace('__', '.')}"
        writer.add_string(key, value) if isinstance(value, str) else writer.add_float32(key, value)
    bytes_of = [f"<0x{byte:02X}>" for byte in range(40)]
    words = ["<unk>", "<s>", "</s>", *bytes_of, *(chr(97 + number) for number in range(21))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([float(-number) for number in range(64)])
    writer.add_token_types([2, 3, 3, *[6] * 40, *[1] * 21])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    shapes = {"token_embd.weight": (64, 32), "output.weight": (64, 32), "output_norm.weight": (32,)}
    for block in range(4):
        parts = {"attn_norm": (32,), "attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32),
                 "attn_output": (32, 32), "ffn_norm": (32,), "ffn_gate": (64, 32), "ffn_up": (64, 32),
                 "ffn_down": (32, 64)}  # fmt: skip
        shapes |= {f"blk.{block}.{part}.weight": shape for part, shape in parts.items()}
    tensors = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    if change is not None:
        change(tensors, np)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return place


def sums(plait, source, questions, out) -> list[list[float]]:
    status, _, err = plait("score", "--model", source, "--data", questions, "--out", out)
    assert status == 0, err
    return [json.loads(line)["sums"] for line in out.read_text().splitlines()]


@pytest.fixture
def letters(tmp_path) -> Path:
    file = tmp_path / "letters.jsonl"
    row = {"id": "a", "question": "a b c d", "choices": ["e", "f"], "answer": 0}
    file.write_text(json.dumps(row) + "\n")
    return file


@pytest.mark.row("A: gguf rewritten under the same path")
@pytest.mark.parametrize("keep_times", [False, True])
def test_a_gguf_rewritten_under_its_path_is_another_model(plait, monkeypatch, tmp_path, letters, keep_times):
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    file, second = gguf_file(tmp_path / "x.gguf"), gguf_file(tmp_path / "y.gguf", seed=1)
    before = sums(plait, f"gguf:{file}", letters, tmp_path / "before")
    assert sums(plait, f"gguf:{file}", letters, tmp_path / "again") == before
    rewritten(file, second, keep_times=keep_times)
    after = sums(plait, f"gguf:{file}", letters, tmp_path / "after")
    assert after == sums(plait, f"gguf:{second}", letters, tmp_path / "expected")
    assert after != before
    status, out, _ = plait("models", "show", f"gguf:{file}", "--json")
    assert status == 0
    _, expected, _ = plait("models", "show", f"gguf:{second}", "--json")
    assert json.loads(out)["model_hash"] == json.loads(expected)["model_hash"]


def no_tensor(*names):
    def change(tensors, np):
        for name in names:
            del tensors[name]

    return change


def one_more(name, *shape):
    def change(tensors, np):
        tensors[name] = np.full(shape, 2.0, dtype=np.float32)

    return change


def renamed(before, after):
    def change(tensors, np):
        tensors[after] = tensors.pop(before)

    return change


GGUFS = {
    "a weight": ({"change": no_tensor("blk.2.attn_q.weight")}, "missing blk.2.attn_q.weight"),
    "the last norm": ({"change": no_tensor("output_norm.weight")}, "missing output_norm.weight"),
    "blocks": ({"blocks": 6}, "6 blocks"),
    "blocks of its header": ({"blocks": 3}, "3 blocks"),
    "a bias too many": ({"change": one_more("blk.1.attn_q.bias", 32)}, "unexpected blk.1.attn_q.bias"),
    "experts": ({"change": one_more("blk.1.ffn_gate_exps.weight", 4, 64, 32)}, "unexpected blk.1.ffn_gate_exps.weight"),
    "a shape": ({"change": one_more("blk.1.ffn_up.weight", 48, 32)}, "blk.1.ffn_up.weight"),
    "rows of the embedding": ({"change": one_more("token_embd.weight", 60, 32)}, "60 rows"),
    "factors of the rotary table": ({"change": one_more("rope_freqs.weight", 4)}, "rope_freqs.weight"),
    "scaling of the rotary table": ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, "rope.scaling"),
    "a logit scale": ({"logit_scale": 0.1}, "logit_scale"),
    "a family": ({"architecture": "mamba"}, "supported in GGUF: llama, qwen2, qwen3, gemma3"),
}


@pytest.mark.row("A: gguf lacks a weight")
@pytest.mark.parametrize("lack", GGUFS)
def test_a_gguf_that_is_not_whole_is_refused(refused, tmp_path, lack):
    fields, said = GGUFS[lack]
    if lack == "a shape":
        said = "misshapen"
    refused(f"gguf:{gguf_file(tmp_path / 'x.gguf', **fields)}", said)


@pytest.mark.row(HELD)
@pytest.mark.parametrize("share", [0.0001, 0.001, 0.05, 0.2, 0.5, 0.9, 0.999])
def test_a_gguf_cut_anywhere_is_one_line(refused, tmp_path, share):
    content = gguf_file(tmp_path / "x.gguf").read_bytes()
    (tmp_path / "x.gguf").write_bytes(content[: max(6, int(len(content) * share))])
    refused(f"gguf:{tmp_path / 'x.gguf'}", "x.gguf")


@pytest.mark.row("A: gguf lacks a weight")
def test_a_gguf_that_an_older_version_filled_with_random_numbers_is_looked_at_again(
    plait, monkeypatch, tmp_path, letters
):
    """What an older version kept says nothing of what its file lacked."""
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    good = gguf_file(tmp_path / "x.gguf")
    status, _, err = plait("models", "pull", f"gguf:{good}")
    assert status == 0, err
    (kept,) = (tmp_path / "home" / "models").iterdir()
    for file in kept.iterdir():
        written_before = file.name in ("plait.json", "config.json", "generation_config.json") or "token" in file.name
        if file.suffix == ".json" and not written_before:
            file.unlink()
    gguf_file(good, change=no_tensor("blk.2.attn_q.weight"))
    status, _, err = plait("score", "--model", f"gguf:{good}", "--data", letters, "--out", tmp_path / "out")
    assert status == 2
    assert "missing blk.2.attn_q.weight" in err
    assert not list((tmp_path / "home").glob("models/*"))


@pytest.mark.row("A: PLAIT_HOME a file or unwritable")
@pytest.mark.parametrize("way", ["a file", "below a file", "read-only"])
def test_a_cache_that_cannot_be_written_is_one_line(command, whole, tmp_path, way):
    home = tmp_path / "closed"
    if way == "read-only":
        home.mkdir(mode=0o500)
        if os.access(home, os.W_OK):
            home.rmdir()
            home = Path("/proc/plait")  # root may write anywhere but here
    else:
        home.write_text("")
    place = home / "deeper" if way == "below a file" else home
    for source in (whole(), f"gguf:{gguf_file(tmp_path / 'x.gguf')}"):
        code, out, err = command("models", "pull", source, PLAIT_HOME=str(place))
        assert code == 4, (out, err)
        assert "Traceback" not in err
        assert len([line for line in err.splitlines() if line.startswith("plait: ")]) == 1
        assert "PLAIT_HOME" in err


@pytest.mark.row("A: PLAIT_HOME a file or unwritable")
def test_a_text_too_long_for_a_path_is_one_line(command):
    code, out, err = command("models", "pull", "x" * 5000)
    assert (code, "Traceback" in err) == (2, False), (out, err)
