"""The graphs of a judge run, made alike in any process: an item's network, and the networks beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...agents.judges.network import Item, Judges
from ...agents.judges.wording import Wording
from ...candidates import JudgeNetwork
from ...graphs import Graph
from .judge_data import Pair

Asked = tuple[Pair, str]
"""An item and the name of the network it is put to; "" is the run's own."""


@dataclass(frozen=True)
class GraphMaker:
    """Makes the graph of an item for one of several networks.

    Attributes:
        networks: By name.
        models: Names of the chat models.
        prompts: Folder of prompt files; None for Plait's own.
        seed: Of the run.
        prefilled: Those of the models that go on with an answer begun for them.
    """

    networks: Mapping[str, JudgeNetwork]
    models: tuple[str, ...]
    prompts: str | None
    seed: int
    prefilled: frozenset[str]

    def __call__(self, asked: Asked) -> Graph:
        """Return the graph."""
        pair, name = asked
        judges = Judges(self.networks[name], self.models, wording(self.prompts), self.seed, self.prefilled)
        item = Item(pair.id, pair.query, pair.response1, pair.response2)
        return Graph(f"{pair.id}/{name}" if name else pair.id, judges.nodes(item))


@cache
def wording(prompts: str | None) -> Wording:
    """Return the wording of a folder, its files read once a process."""
    return Wording(None if prompts is None else Path(prompts))
