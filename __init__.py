"""Plait: search over networks of layers, weights, agents and judges, as actor graphs on Ray.

The names below load what they need when first used: `import plait` loads neither torch nor Ray.

>>> from plait import LayerPath
>>> LayerPath.parse("0-11,12x3,13-29").layers[11:15]
(11, 12, 12, 12)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .architectures import Architecture
    from .candidates import JudgeNetwork, LayerPath
    from .errors import PlaitError
    from .graphs import Graph, Node
    from .models.decoder import LayeredDecoder
    from .models.executor import PathExecutor
    from .models.images import load_images
    from .models.sources import ensure
    from .models.tracing import from_module
    from .orchestrator.graph_run import GraphRun
    from .orchestrator.ledger import Ledger
    from .orchestrator.recipes.cola import CoLa
    from .orchestrator.recipes.cola_result import CoLaResult
    from .orchestrator.recipes.compress import Compress
    from .orchestrator.recipes.compress_result import CompressResult
    from .orchestrator.recipes.judge import Judge
    from .orchestrator.recipes.judge_result import JudgeResult
    from .orchestrator.recipes.team import TeamTrainer
    from .orchestrator.recipes.team_live import Team, TeamAnswer
    from .orchestrator.recipes.team_result import TeamResult
    from .orchestrator.study import Strand, Study
    from .search.halving import SuccessiveHalving
    from .search.mcts import MCTS
    from .search.random_search import RandomSearch
    from .search.tree import TreeSearch
    from .teams import TeamSpec

__version__ = "0.1.0"

_PLACES = {
    "Architecture": "architectures",
    "CoLa": "orchestrator.recipes.cola",
    "CoLaResult": "orchestrator.recipes.cola_result",
    "Compress": "orchestrator.recipes.compress",
    "CompressResult": "orchestrator.recipes.compress_result",
    "Graph": "graphs",
    "GraphRun": "orchestrator.graph_run",
    "Judge": "orchestrator.recipes.judge",
    "JudgeNetwork": "candidates",
    "JudgeResult": "orchestrator.recipes.judge_result",
    "LayerPath": "candidates",
    "LayeredDecoder": "models.decoder",
    "Ledger": "orchestrator.ledger",
    "MCTS": "search.mcts",
    "PathExecutor": "models.executor",
    "PlaitError": "errors",
    "RandomSearch": "search.random_search",
    "Strand": "orchestrator.study",
    "Study": "orchestrator.study",
    "SuccessiveHalving": "search.halving",
    "Team": "orchestrator.recipes.team_live",
    "TeamAnswer": "orchestrator.recipes.team_live",
    "TeamResult": "orchestrator.recipes.team_result",
    "TeamSpec": "teams",
    "TeamTrainer": "orchestrator.recipes.team",
    "TreeSearch": "search.tree",
    "Node": "graphs",
    "ensure": "models.sources",
    "from_module": "models.tracing",
    "load_images": "models.images",
}

__all__ = [
    "MCTS",
    "Architecture",
    "CoLa",
    "CoLaResult",
    "Compress",
    "CompressResult",
    "Graph",
    "GraphRun",
    "Judge",
    "JudgeNetwork",
    "JudgeResult",
    "LayerPath",
    "LayeredDecoder",
    "Ledger",
    "Node",
    "PathExecutor",
    "PlaitError",
    "RandomSearch",
    "Strand",
    "Study",
    "SuccessiveHalving",
    "Team",
    "TeamAnswer",
    "TeamResult",
    "TeamSpec",
    "TeamTrainer",
    "TreeSearch",
    "ensure",
    "from_module",
    "load_images",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'plait' has no attribute {name!r}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
