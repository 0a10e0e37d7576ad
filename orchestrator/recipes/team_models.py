"""The chat models of a run of a team: which it needs, what they are called, and their workers. Knows no item."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ...agents.sandbox import Sandbox, SandboxModel
from ...models.chat import ChatModel
from ...records import JSON
from ...teams import TeamSpec
from ..calls import CallWorker
from ..limiter import Limiter
from .judge_models import Named, check_endpoints, named, open_models, options_of
from .team_spec import TeamFields

Pulling = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TeamModels:
    """The models of a run.

    Attributes:
        named: By the text that names each.
        parts: The text by what takes part: "" for the agents' own model, the name that an agent gives, and what else
            a run needs, such as its optimiser, by `*optimiser`, which is no model's name.
    """

    named: Mapping[str, Named]
    parts: Mapping[str, str]

    @property
    def resolved(self) -> dict[str, JSON]:
        """What the names stood for."""
        return {name.removeprefix("*"): self.named[text].resolved for name, text in self.parts.items()}

    @property
    def hosts(self) -> int:
        """How many of them run on hosts of ours."""
        return sum(model.kind == "host" for model in self.named.values())

    def opened(self, spec: TeamFields) -> "OpenModels":
        """Open all of them, and the sandbox.

        Raises:
            SpecError: a price is missing.
            ClusterError: a host cannot be placed.
        """
        found = {text: open_models([model], spec.run, spec.prices) for text, model in self.named.items()}
        pools = {name: found[text][0].pool for name, text in self.parts.items()}
        workers = [worker for part in found.values() for worker in part]
        chats = {worker.pool: worker.model for worker in workers}
        box = SandboxModel(Sandbox(allow_network=spec.run.allow_network))
        sandbox = CallWorker(box, Limiter(most=box.slots, window=box.slots))
        return OpenModels(pools, chats, [*workers, sandbox])


@dataclass(frozen=True)
class OpenModels:
    """Open models.

    Attributes:
        parts: The chat model's name by what takes part.
        chats: The chat models by their names.
        workers: What calls are sent to, the sandbox among them.
    """

    parts: Mapping[str, str]
    chats: Mapping[str, ChatModel]
    workers: list[CallWorker]

    @property
    def agents(self) -> dict[str, str]:
        """The chat model's name by what agents and aggregators call it."""
        return {name: pool for name, pool in self.parts.items() if not name.startswith("*")}

    def pool(self, part: str) -> str:
        """Return the chat model's name of a part, the agents' own where it has none of its own."""
        return self.parts.get(f"*{part}", self.parts[""])


def team_models(spec: TeamFields, team: TeamSpec, parts: Mapping[str, str | None], pulling: Pulling) -> TeamModels:
    """Return the models that a run needs, fetched where they run here.

    Args:
        spec: Of the run.
        team: Whose agents may name models.
        parts: Models beside the agents', such as the optimiser's; None for the agents' own.
        pulling: Told how far a model's download is.

    Raises:
        SpecError: a name is of no known form.
        SourceError: a host's model cannot be had.
    """
    texts = {"": spec.model, **{name: name for name in names_in(team)}}
    texts |= {f"*{name}": text or spec.model for name, text in parts.items()}
    check_endpoints(spec, texts.values(), "team")
    found: dict[str, Named] = {}
    for name, text in texts.items():
        if text not in found:
            where = "team.model" if not name.startswith("*") else f"team.{name[1:]}"
            options = options_of(spec, text)
            found[text] = named(text, pulling, dtype=spec.dtype, device=spec.device, where=where, options=options)
    return TeamModels(found, texts)


def names_in(team: TeamSpec) -> Iterable[str]:
    """Return the models that agents and aggregators of a team name."""
    names = [agent.model for agent in team.agents()]
    names += [block.aggregate.model for layer in team.layers for block in layer.blocks]
    return dict.fromkeys(name for name in names if name)
