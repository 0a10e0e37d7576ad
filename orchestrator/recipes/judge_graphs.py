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


_BESIDE = "\x1f"
"""Between an item's id and the name of a network beside; no id holds it, so no two graphs have one name."""


@dataclass(frozen=True)
class GraphMaker:
    """Makes the graph of an item for one of several networks.

    Attributes:
        networks: By name.
        models: Names of the chat models.
        wording: The prompts; their texts travel with it, so that every process sends the same.
        seed: Of the run.
        prefilled: Those of the models that go on with an answer begun for them.
    """

    networks: Mapping[str, JudgeNetwork]
    models: tuple[str, ...]
    wording: Wording
    seed: int
    prefilled: frozenset[str]

    def __call__(self, asked: Asked) -> Graph:
        """Return the graph."""
        pair, name = asked
        judges = Judges(self.networks[name], self.models, self.wording, self.seed, self.prefilled)
        item = Item(pair.id, pair.query, pair.response1, pair.response2)
        return Graph(f"{pair.id}{_BESIDE}{name}" if name else pair.id, judges.nodes(item))


@cache
def wording(prompts: str | None) -> Wording:
    """Return the wording of a folder, its files read once a process."""
    return Wording(None if prompts is None else Path(prompts))
