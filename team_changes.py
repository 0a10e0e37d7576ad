"""What a change of a team must not do, beside leading to a team that is none. Pure; must not know edits."""

from collections.abc import Callable, Iterable, Iterator

from .errors import nearest
from .team_problems import Problem, one_line
from .teams import TeamSpec, placeholders


def lost(before: TeamSpec, after: TeamSpec) -> Iterator[Problem]:
    """Yield agents of both teams that are no longer shown what their instructions asked for."""
    old = {agent.name: placeholders(agent.instructions) for agent in before.agents()}
    for agent in after.agents():
        for name in sorted(old.get(agent.name, frozenset()) - placeholders(agent.instructions)):
            why = f"{{{name}}} is gone from the instructions, expected every placeholder of the old ones"
            yield Problem("lost-placeholder", f"agent {agent.name}", why)


def strange(before: TeamSpec, after: TeamSpec, models: Iterable[str]) -> Iterator[Problem]:
    """Yield names of chat models that are neither "" nor in `models` nor in the team as it was."""
    known = list(dict.fromkeys(["", *models, *_models(before)]))
    for name, where in _models(after).items():
        if name not in known:
            expected = nearest(one_line(name), known[1:]) if known[1:] else '""'
            yield Problem("unknown-model", where, f"no model {one_line(name)!r}, expected {expected}")


def leaked(before: TeamSpec, after: TeamSpec, leaks: Callable[[str], bool] | None) -> Iterator[Problem]:
    """Yield new texts in which `leaks` finds a question."""
    old = {text for _, text in _texts(before)}
    for where, text in _texts(after) if leaks else ():
        if leaks and text not in old and leaks(text):
            yield Problem("leak", where, "words of a question that teams are judged by, expected general advice")


def _models(team: TeamSpec) -> dict[str, str]:
    """Return the names of the chat models of a team, each with a place where it stands."""
    named = {agent.model: f"agent {agent.name}" for agent in team.agents()}
    blocks = [(layer, block) for layer in team.layers for block in layer.blocks]
    return named | {block.aggregate.model: f"layer {layer.name}: block {block.name}" for layer, block in blocks}


def _texts(team: TeamSpec) -> Iterator[tuple[str, str]]:
    """Yield every text of a team that a model may come to read, with its place."""
    for layer in team.layers:
        yield f"layer {layer.name}", layer.task
        for block in layer.blocks:
            where = f"layer {layer.name}: block {block.name}"
            yield where, block.when
            schemas = [agent.output for agent in block.agents] + [block.aggregate.output or team.answer]
            yield from ((where, " ".join((*schema.options, *schema.fields))) for schema in schemas)
            for agent in block.agents:
                yield f"{where}: agent {agent.name}", agent.role
                yield f"{where}: agent {agent.name}", agent.instructions
