"""An evaluator whose source changed must have a new version number, or the ledger would serve the old values.

The digest is over the syntax tree without docstrings: comments, formatting and docstrings do not count. Where a
change cannot change a value, `python tests/test_evaluator_versions.py --store` writes the new digest.
"""

import ast
import hashlib
import json
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / "tests" / "evaluator_versions.json"
COMMAND = "python tests/test_evaluator_versions.py --store"

READING = (
    "parsing", "marks", "numerals", "matching", "read_booleans", "read_options", "read_programs",
    "../../models/thoughts",
)  # fmt: skip
"""How replies of teams' agents are read."""
EVALUATORS = {
    "plait.models.evaluator:OptionScorer": ("evaluator", "executor", "decoder", "attention", "packing", "joint_tokens"),
    "plait.models.cut_scorer:CutScorer": (
        "cut_scorer", "cut_distill", "decoder_cut", "evaluator", "executor", "decoder", "attention", "packing",
        "joint_tokens",
    ),
    "plait.models.host_generation:HostGeneration": (
        "host_generation", "generation", "generation_request", "generation_choice", "guided", "generation_kv",
        "generation_step", "chat_template", "joint_tokens", "decoder", "attention",
    ),
    "plait.models.students:StudentTrainer": (
        "students", "distill", "images", "network", "inheritance", "../architecture_groups",
    ),
    "plait.models.pruning:LotteryTrainer": (
        "pruning", "students", "distill", "images", "inheritance", "network", "../architecture_groups",
    ),
    "plait.models.supernet:SupernetScorer": (
        "supernet", "distill", "images", "inheritance", "network", "../architecture_groups",
    ),
    "plait.agents.judges.tasks:NameAngles": ("tasks", "parsing", "wording"),
    "plait.agents.judges.tasks:WriteReview": ("tasks", "parsing", "wording"),
    "plait.agents.judges.tasks:PickLetter": ("tasks", "wording"),
    "plait.agents.teams.agent:AskAgent": ("agent", *READING),
    "plait.agents.teams.selection:SelectBlock": ("selection", *READING),
    "plait.agents.teams.combining:ChooseBest": ("combining", "selection", *READING),
    "plait.agents.teams.gradients:Critique": (
        "gradients", "gradient_parsing", "gradient_given", "../../models/thoughts",
    ),
    "plait.agents.teams.gradients:Repair": (
        "gradients", "gradient_parsing", "gradient_given", "../../models/thoughts", "../../team_edits",
    ),
    "plait.agents.teams.losses:Match": ("losses", "matching", "marks", "numerals"),
    "plait.agents.teams.losses:RunTests": (
        "losses", "../sandbox", "../sandbox_child", "../sandbox_asserts", "../sandbox_filter", "../sandbox_host",
        "../sandbox_keeper",
    ),
}  # fmt: skip
"""A line an evaluator: its class, and the modules beside it that its version number answers for."""


def without_docstrings(tree: ast.Module) -> ast.Module:
    """Drop every statement that is a text alone: docstrings of modules, classes and functions, and of fields."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)] or [ast.Pass()]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def shape(node: object) -> object:
    """Return a syntax tree as plain lists; empty fields are left out, since each Python has a few more of them."""
    if isinstance(node, ast.AST):
        fields = [[name, shape(value)] for name, value in ast.iter_fields(node) if value is not None and value != []]
        return [type(node).__name__, *fields]
    return [shape(part) for part in node] if isinstance(node, list) else repr(node)


def digest_of(sources: dict[str, str]) -> str:
    """Return the SHA-256 over the syntax trees of named sources."""
    shapes = [[name, shape(without_docstrings(ast.parse(text)))] for name, text in sorted(sources.items())]
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()


def current() -> dict[str, tuple[int, str]]:
    """Return version and digest of every evaluator as it is now, by its name in the ledger."""
    found = {}
    for place, modules in EVALUATORS.items():
        module, _, name = place.partition(":")
        evaluator = getattr(import_module(module), name)
        folder = ROOT.joinpath(*module.split(".")[1:-1])
        sources = {part: (folder / f"{part}.py").read_text() for part in modules}
        found[evaluator.name] = (evaluator.version, digest_of(sources))
    return found


def problems(now: dict[str, tuple[int, str]], stored: dict[str, dict[str, str]]) -> list[str]:
    """Return a line for every evaluator whose digest is not the one stored for its version."""
    lines = []
    for name, (version, digest) in now.items():
        before = stored.get(name, {})
        if str(version) not in before:
            lines.append(f"{name}: version {version} has no stored digest; run: {COMMAND}")
        elif before[str(version)] != digest:
            lines.append(
                f"{name}: its source changed and its version is still {version}. If a value may differ, raise the "
                f"version in its class; then, or if none can differ, store the new digest: {COMMAND}"
            )
    return lines


def test_a_changed_evaluator_has_a_new_version():
    assert problems(current(), json.loads(STORE.read_text())) == []


def test_comments_layout_and_docstrings_do_not_count():
    plain = "def f(x: int) -> int:\n    return x + 1\n\n\nclass C:\n    a: int = 1\n"
    told = (
        '"""Module."""\n\n# why\ndef f(x: int) -> int:\n    """Say."""\n    return (\n        x + 1\n    )\n'
        'class C:\n    """Say."""\n\n    a: int = 1\n    """Field."""\n'
    )
    assert digest_of({"m": plain}) == digest_of({"m": told})
    assert digest_of({"m": plain}) != digest_of({"m": plain.replace("+ 1", "+ 2")})


def test_a_change_without_a_new_number_is_told_with_what_to_do():
    stored = {"scores": {"1": "old"}}
    assert problems({"scores": (1, "old")}, stored) == []
    assert "raise the version" in problems({"scores": (1, "new")}, stored)[0]
    assert COMMAND in problems({"scores": (1, "new")}, stored)[0]
    assert COMMAND in problems({"scores": (2, "new")}, stored)[0]


def store() -> None:
    """Write the digests of the current versions; those of earlier versions stay."""
    stored = json.loads(STORE.read_text()) if STORE.exists() else {}
    for name, (version, digest) in current().items():
        stored.setdefault(name, {})[str(version)] = digest
    STORE.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--store"]:
        sys.exit(f"usage: {COMMAND}")
    store()
