"""Tokenizers of many makes, trained on a few lines, and what each makes of a whole text."""

import json
from dataclasses import dataclass
from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CORPUS = [
    "Question: What is the capital of France?\nAnswer: Paris, of course. Rome and Oslo are not in France.",
    "The quick brown fox jumps over the lazy dog; 12 + 30 = 42, isn't it? Yes, it is.",
    "Übermäßig große Fußgängerübergänge, naïve cafés, déjà vu: 3.14 and 2,718.",
    "def f(x):\n    return x ** 2  # a comment\n\nprint(f(3))\n",
    "A B C D neither tie (A) [B] {C} <D> a. b) answer: A\nAnswer: B\nAnswer:  C",
    "東京は日本の首都です。 Москва — столица России. 🙂🙃 👩‍👩‍👧",
] * 4
SPECIALS = ["<unk>", "<s>", "</s>", "<pad>"]
BYTES = [f"<0x{number:02X}>" for number in range(256)]
NORMALIZERS = {
    "prepend": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
    "replace": normalizers.Replace(" ", "▁"),
    "lower": normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
    "nfkc": normalizers.NFKC(),
    "bert": normalizers.BertNormalizer(lowercase=True),
}
PRE_TOKENIZERS = {
    "bytes": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "bytes, space": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "first": pre_tokenizers.Metaspace(prepend_scheme="first"),
    "always": pre_tokenizers.Metaspace(prepend_scheme="always"),
    "never": pre_tokenizers.Metaspace(prepend_scheme="never"),
    "never, whole": pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
    "words": pre_tokenizers.BertPreTokenizer(),
}
TEMPLATES = {"": (0, 0), "<s> $A": (1, 0), "$A </s>": (0, 1), "<s> $A </s>": (1, 1)}
"""Post-processors, and how many tokens each puts before and behind a text."""


@dataclass(frozen=True)
class Make:
    """How a tokenizer is built."""

    kind: str
    normalizer: str = ""
    pre_tokenizer: str = ""
    template: str = ""
    byte_fallback: bool = False


MAKES = {
    "byte-level BPE": Make("bpe", pre_tokenizer="bytes"),
    "byte-level BPE that opens with a space": Make("bpe", pre_tokenizer="bytes, space"),
    "byte-level BPE, end of text appended": Make("bpe", pre_tokenizer="bytes", template="$A </s>"),
    "BPE, Metaspace first, both ends": Make("bpe", pre_tokenizer="first", template="<s> $A </s>"),
    "BPE, Metaspace always": Make("bpe", pre_tokenizer="always"),
    "BPE, Metaspace never, beginning of text": Make("bpe", pre_tokenizer="never", template="<s> $A"),
    "BPE, Prepend, byte fallback (Llama 2)": Make("bpe", "prepend", template="<s> $A", byte_fallback=True),
    "BPE, spaces replaced, merges across words (Gemma)": Make("bpe", "replace", "never, whole", "<s> $A", True),
    "BPE, lower case": Make("bpe", "lower", "always", "<s> $A"),
    "WordPiece": Make("wordpiece", "bert", "words", "<s> $A </s>"),
    "Unigram, NFKC, Metaspace": Make("unigram", "nfkc", "always", "$A </s>"),
    "Unigram across words": Make("unigram", "", "never, whole", "<s> $A"),
}
SEAMS = ("BPE, spaces replaced, merges across words (Gemma)", "Unigram across words")
"""Of those, the ones whose tokens reach over spaces."""


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a make, as transformers wraps it."""
    make = MAKES[name]
    if make.kind == "bpe":
        model = models.BPE(unk_token="<unk>", byte_fallback=make.byte_fallback)
        special = SPECIALS + (BYTES if make.byte_fallback else [])
        alphabet = pre_tokenizers.ByteLevel.alphabet() if make.pre_tokenizer.startswith("bytes") else []
        trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, initial_alphabet=alphabet)
    elif make.kind == "unigram":
        model = models.Unigram()
        trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIALS, unk_token="<unk>")
    else:
        model = models.WordPiece(unk_token="<unk>")
        trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=SPECIALS)
    built = Tokenizer(model)
    if make.normalizer:
        built.normalizer = NORMALIZERS[make.normalizer]
    if make.pre_tokenizer:
        built.pre_tokenizer = PRE_TOKENIZERS[make.pre_tokenizer]
    built.train_from_iterator(CORPUS, trainer)
    if make.byte_fallback:
        built = _with_plain_bytes(built)
    if make.template:
        ends = [(token, built.token_to_id(token)) for token in ("<s>", "</s>")]
        built.post_processor = processors.TemplateProcessing(single=make.template, special_tokens=ends)
    built.decoder = _decoder(make)
    return PreTrainedTokenizerFast(
        tokenizer_object=built, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def _with_plain_bytes(built: Tokenizer) -> Tokenizer:
    """Return the tokenizer with its bytes as plain tokens of the vocabulary: they are no control tokens."""
    values = json.loads(built.to_str())
    values["added_tokens"] = [added for added in values["added_tokens"] if added["content"] in SPECIALS]
    return Tokenizer.from_str(json.dumps(values))


def _decoder(make: Make) -> decoders.Decoder:
    if make.kind == "wordpiece":
        return decoders.WordPiece(cleanup=False)
    if make.pre_tokenizer.startswith("bytes"):
        return decoders.ByteLevel()
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if make.normalizer == "prepend" or make.pre_tokenizer in ("always", "first"):
        parts.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(parts)


def ends_of(name: str) -> tuple[int, int]:
    """Return how many tokens the tokenizer puts before and behind a text."""
    return TEMPLATES[MAKES[name].template]


def whole_text(name: str, text: str) -> list[int]:
    """Return the tokens of a text that may go on: all that the tokenizer makes of it, but what it appends."""
    tokens = tokenizer_of(name).encode(text)
    return tokens[: len(tokens) - ends_of(name)[1]]


def folder_of(make, place, *, layers=2, template=None, context=512, broken=None):
    """Write a model of random weights with the tokenizer of a make; `broken` is a layer, and a weight's value there."""
    torch.manual_seed(7)
    tokenizer = tokenizer_of(make)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 1, hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, initializer_range=0.4,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    if broken is not None:
        layer, value = broken
        with torch.no_grad():
            model.model.layers[layer].mlp.up_proj.weight[3, 5] = value
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    if template is not None:
        values = json.loads((place / "tokenizer_config.json").read_text())
        (place / "tokenizer_config.json").write_text(json.dumps({**values, "chat_template": template}))
    return place
