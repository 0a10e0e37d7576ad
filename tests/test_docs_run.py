"""Every command that README and docs show is one that the command line takes, and its dry run succeeds.

A page's commands are its fenced lines that begin with `plait`. What they read lies in a folder of small stand-ins, from
this checkout alone; what needs a finished run (resume, show, report) or the network is parsed and not run.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from plait.orchestrator import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SUBSTITUTES = {
    "runs/small/teacher": "resnet18:width=8",  # the student's teacher of an earlier run
    "--policy runs/small/policy": "",
    "ms=0.3": "params=0.3x",  # measuring a network's time takes time
}


def commands_of(page: Path) -> list[str]:
    """Return the commands of a page's fenced blocks, continued lines joined, comments and placeholders cut."""
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    shown = [re.match(r"(?:\$ )?(?:\.venv/bin/)?plait ([a-z].*)", line) for line in lines]
    return [re.sub(r"\s+#.*|\s\[--[^]]*\]", "", line[1]) for line in shown if line]  # [--flag]: may be left out


COMMANDS = [pytest.param(line, id=f"{page.name}-{line[:60]}") for page in PAGES for line in commands_of(page)]


def parsed(line: str):
    """Return the click command that a line names and its values; what it does not take ends the test."""
    command, arguments = typer.main.get_command(cli.app), shlex.split(line)
    context = command.make_context("plait", list(arguments))
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None, f"plait {line}: no such command"
        context = command.make_context(name, rest, parent=context)
    return command, context.params


def test_the_pages_show_commands():
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_line_takes_it(line):
    command, _ = parsed(line)
    assert command.callback is not None


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> Path:
    """A folder with a small file under each name that the pages use."""
    folder = tmp_path_factory.mktemp("stand-ins")
    for name in ("questions.jsonl", "arc_easy.jsonl"):
        shutil.copy(ROOT / "data" / "questions.jsonl", folder / name)
    shutil.copy(ROOT / "data" / "pairs.jsonl", folder / "pairs.jsonl")
    (folder / "prices.yaml").write_text("gpt-4o-mini: {input: 0.15, output: 0.6}\n")
    (folder / "stories.txt").write_text("".join(f"Once a hen met {n} foxes and ran home.\n\n" for n in range(400)))
    draw = np.random.default_rng(0)
    sizes = {"images": (16, 16, 3), "mnist1d": (1, 40), "mnist_full": (28, 28), "cifar10_small": (32, 32, 3)}
    for name, shape in sizes.items():
        arrays = {
            **{f"x_{part}": draw.random((n, *shape), np.float32) for part, n in (("train", 5000), ("test", 100))},
            **{f"y_{part}": np.arange(n) % 10 for part, n in (("train", 5000), ("test", 100))},
        }
        np.savez(folder / f"{name}.npz", **arrays)
    demo = {"method": "team", **cli.DEMOS["team"]}
    (folder / "spec.yaml").write_text(json.dumps(demo))
    example = (ROOT / "examples" / "team_bbh.yaml").read_text()  # its data lies beside a checkout, not in it
    (folder / "examples").mkdir()
    words = [{"id": str(n), "question": f"Is {n} even?", "kind": "boolean", "gold": n % 2 == 0} for n in range(250)]
    (folder / "bbh.jsonl").write_text("\n".join(map(json.dumps, words)))
    (folder / "examples" / "team_bbh.yaml").write_text(re.sub(r"(?m)^data: .*", "data: bbh.jsonl", example))
    return folder


DRY = [one for one in COMMANDS if "dry_run" in {parameter.name for parameter in parsed(one.values[0])[0].params}]


@pytest.mark.weights
@pytest.mark.parametrize("line", [one for one in DRY if "FOLDER" not in one.values[0]])
def test_its_dry_run_succeeds(line, smollm2, stand_ins, plait, monkeypatch):
    for text, other in SUBSTITUTES.items():
        line = line.replace(text, other)
    monkeypatch.chdir(stand_ins)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    code, _, err = plait(*shlex.split(line), "--dry-run")
    assert code == 0, f"plait {line} --dry-run: {err}"
