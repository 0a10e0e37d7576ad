"""A plain team for tests, and random patches of it: sound ones, near misses and nonsense, as models write them."""

import yaml
from hypothesis import strategies as st
from plait.teams import TeamSpec

PLAIN = """
layers:
  - name: draft
    task: Work the question out, step by step.
    selector: llm
    blocks:
      - name: one
        when: The question is short.
        agents:
          - name: drafter
            instructions: |-
              Read {question} twice.
              Then think.
      - name: trio
        when: The question is long.
        aggregate: {kind: synthesize}
        agents:
          - {name: first}
          - {name: second, role: a sceptic, temperature: 0.7, n: 2}
  - name: check
    task: Check the draft and answer.
    blocks:
      - name: pair
        aggregate: {kind: chain}
        agents:
          - {name: checker, instructions: "Look for slips in {input}."}
          - {name: writer, output: {kind: number}}
answer: {kind: number}
limits: {max_agents: 7, max_layers: 3}
"""
LAYERS, BLOCKS = ("draft", "check", "input", "third", "drft"), ("one", "trio", "pair", "out", "noe", "\ud800")
AGENTS = ("drafter", "first", "second", "checker", "writer", "fourth", "fifth", "writr")


def plain():
    return TeamSpec.parse(yaml.safe_load(PLAIN))


texts = st.one_of(
    st.sampled_from(["Think.", "Read {question}.", "Use {input} and {{braces}}.", "{answer}", "{", "a\nb", "x" * 4001]),
    st.just("Read {question} and {input}, then think."),
    st.text(st.characters(), max_size=30),  # lone surrogates too
)
layers, blocks, agents = (st.sampled_from(names) for names in (LAYERS, BLOCKS, AGENTS))
schemas = st.sampled_from(
    [{}, {"kind": "number"}, {"kind": "word"}, {"kind": "code"}, {"kind": "option", "options": ["A", "B"]},
     {"kind": "option"}, {"kind": "numbr"}]
)  # fmt: skip
numbers = st.sampled_from([1, 1, 1, 2, 0, 0.5, -1, 40, float("inf"), None])


def mappings(required, **optional):
    return st.fixed_dictionaries(required, optional=optional)


specs = mappings(
    {"name": agents}, role=texts, instructions=texts, output=schemas, temperature=numbers, n=numbers,
    model=st.sampled_from(["", "large"]), tools=st.lists(st.just("python"), max_size=1),
)  # fmt: skip
aggregates = mappings(
    {"kind": st.sampled_from(
        ["single", "majority", "best_of", "synthesize", "debate", "code_filter", "chain", "majorty"])},
    rounds=numbers, model=st.just("large"), output=schemas,
)  # fmt: skip
block_specs = mappings({"name": blocks, "agents": st.lists(specs, max_size=3)}, when=texts, aggregate=aggregates)
layer_specs = mappings(
    {"name": layers, "task": texts, "blocks": st.lists(block_specs, max_size=2)},
    default=blocks, selector=st.sampled_from(["static", "llm", "rule", "random", "oracle"]), reads=st.lists(layers),
)  # fmt: skip
FIELDS = {
    "set_instructions": {"agent": agents, "text": texts},
    "set_role": {"agent": agents, "text": texts},
    "add_agent": {"layer": layers, "block": blocks, "agent": specs},
    "remove_agent": {"agent": agents},
    "set_aggregate": {"layer": layers, "block": blocks, "aggregate": aggregates},
    "add_block": {"layer": layers, "block": block_specs},
    "remove_block": {"layer": layers, "block": blocks},
    "set_default": {"layer": layers, "block": blocks},
    "set_when": {"layer": layers, "block": blocks, "text": texts},
    "add_layer": {"after": layers, "layer": layer_specs},
    "remove_layer": {"layer": layers},
    "set_reads": {"layer": layers, "reads": st.lists(layers, max_size=3)},
}
edits = st.one_of([mappings({"op": st.just(op), **fields}) for op, fields in FIELDS.items()])
nonsense = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["edits", "op", "agent", "x"]), inner),
    max_leaves=6,
)
patches = mappings({"edits": st.lists(edits, min_size=1, max_size=3)}, rationale=texts)
"""Mappings that are patches, or close to it."""
anything = patches | nonsense | mappings({"edits": st.lists(edits | nonsense, max_size=4)})


LONE = {"name": "lone"}


def _sound(op, **fields):
    return st.fixed_dictionaries({"op": st.just(op), **fields})


wordings = st.text(max_size=20).map(
    lambda text: "Read {question} and {input}. " + text.replace("{", "").replace("}", "")
)
fresh = st.builds("{}{}".format, st.sampled_from(["a", "b", "ü"]), st.integers(0, 30))
spare = st.sampled_from(["one", "trio"])
sound = st.one_of(
    _sound("set_instructions", agent=st.sampled_from(AGENTS[:5]), text=wordings),
    _sound("set_role", agent=st.sampled_from(AGENTS[:5]), text=wordings),
    _sound("add_agent", layer=st.just("draft"), block=st.just("trio"),
           agent=st.fixed_dictionaries({"name": fresh, "instructions": wordings})),
    _sound("remove_agent", agent=st.sampled_from(["first", "second"])),
    _sound("set_aggregate", layer=st.just("draft"), block=st.just("trio"), aggregate=st.sampled_from(
        [{"kind": "best_of"}, {"kind": "synthesize"}, {"kind": "synthesize", "output": {"kind": "word"}}])),
    _sound("add_block", layer=st.just("draft"), block=st.fixed_dictionaries(
        {"name": fresh, "agents": st.lists(st.fixed_dictionaries({"name": fresh}), min_size=1, max_size=1)})),
    _sound("remove_block", layer=st.just("draft"), block=spare),
    _sound("set_default", layer=st.just("draft"), block=spare),
    _sound("set_when", layer=st.just("draft"), block=spare, text=st.sampled_from(["It is short.", "It is long."])),
    _sound("add_layer", after=st.sampled_from(["input", "draft"]), layer=st.fixed_dictionaries(
        {"name": st.just("third"), "task": wordings, "blocks": st.just([{"name": "b", "agents": [LONE]}])})),
    _sound("remove_layer", layer=st.just("third")),
    _sound("set_reads", layer=st.just("check"), reads=st.sampled_from(
        [[], ["input"], ["draft"], ["draft", "third"], ["input", "draft"]])),
)  # fmt: skip
careers = st.lists(st.fixed_dictionaries({"edits": st.lists(sound, min_size=1, max_size=2)}) | patches, max_size=8)
"""Patches to be tried one after another, most of them sound."""
