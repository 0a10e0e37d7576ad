"""What `plait team show` prints: a team as an outline, a flow chart, a picture, or what sets another apart."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import typer

from .. import team_pictures
from ..errors import SpecError, StoreError
from ..team_files import load_team
from ..teams import AgentSpec, Block, LayerSpec, TeamSpec

PICTURES = (".svg", ".png", ".pdf")
WIDTH = 100


def show_team(file: Path, *, mermaid: bool, plot: Path | None, other: Path | None, as_json: bool) -> None:
    """Print the team in a file.

    Raises:
        SpecError: a file holds no team, or the picture's name ends in no known way.
        StoreError: the picture cannot be written.
    """
    team = load_team(file)
    if plot is not None:
        _draw(team, plot)
    apart = None if other is None else team_pictures.diff(team, load_team(other))
    if as_json:
        values = team.model_dump(mode="json", exclude_defaults=True)
        more = {} if apart is None else {"diff": apart}
        typer.echo(
            json.dumps(
                {"hash": team.hash, "team": values, "mermaid": team_pictures.mermaid(team), **more},
                ensure_ascii=False,
                allow_nan=False,
            )
        )
    elif apart is not None:
        typer.echo(apart.rstrip() or "the two teams are the same")
    elif mermaid:
        typer.echo(team_pictures.mermaid(team).rstrip())
    elif plot is None:
        typer.echo("\n".join(outline(team)))
    if plot is not None and not as_json:
        typer.echo(f"written: {plot}")


def outline(team: TeamSpec) -> Iterator[str]:
    """Yield a team's lines: layers in their order, their blocks, their agents with what they are told."""
    size = f"{_many(len(team.layers), 'layer')}, {_many(len(team.agents()), 'agent')}"
    yield f"team {team.hash[:12]}: {size}, answers with {team.answer}"
    for number, layer in enumerate(team.layers, start=1):
        yield ""
        yield f"{number}. layer {layer.name}: {_one_line(layer.task)}"
        yield f"   reads {', '.join(team.read_by(layer)) or 'the question alone'}; {_selection(layer)}"
        for block in layer.blocks:
            yield from _block(layer, block)


def _block(layer: LayerSpec, block: Block) -> Iterator[str]:
    default = ", the default" if len(layer.blocks) > 1 and block.name == layer.fallback.name else ""
    when = f" (when: {_one_line(block.when)})" if block.when else ""
    rounds = f", rounds {block.aggregate.rounds}" if block.aggregate.kind == "debate" else ""
    yield f"   block {block.name}{default}: {block.aggregate.kind}{rounds}{when}"
    for agent in block.agents:
        yield f"     agent {agent.name}: {_one_line(agent.role)}; {_sampling(agent)}"
        for line in agent.instructions.splitlines():
            yield from (f"       | {part}" for part in textwrap.wrap(line, WIDTH) or [""])


def _sampling(agent: AgentSpec) -> str:
    parts = [
        f"answers with {agent.output}", f"{agent.max_tokens} tokens at most", f"temperature {agent.temperature:g}",
        f"{agent.n} samples" if agent.n > 1 else "", f"model {agent.model}" if agent.model else "",
        f"tools {', '.join(agent.tools)}" if agent.tools else "",
    ]  # fmt: skip
    return ", ".join(filter(None, parts))


def _selection(layer: LayerSpec) -> str:
    if len(layer.blocks) == 1:
        return "one block"
    how = {"static": "always the default block", "llm": "a model chooses", "random": "a draw chooses"}
    return f"{len(layer.blocks)} blocks, {how.get(layer.selector, 'the first whose when is a word of the question')}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _draw(team: TeamSpec, place: Path) -> None:
    if place.suffix not in PICTURES:
        raise SpecError("--plot", str(place), f"a name that ends in {', '.join(PICTURES)}")
    try:
        team_pictures.plot(team).savefig(place, dpi=150)
    except OSError as error:
        raise StoreError(str(place), f"cannot be written ({error.strerror or type(error).__name__})") from error
