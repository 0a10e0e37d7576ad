"""Single comparisons, one after another or side by side, over models that stay open. Knows no spec and no file."""

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..budget import Budget
from ..calls import CallWorker
from ..graph_run import GraphRun
from ..ledger import Ledger
from ..paying import Policy
from .judge_data import Pair
from .judge_graphs import GraphMaker
from .judge_records import Outcome, outcome_when

if TYPE_CHECKING:
    from .judge_spec import JudgeRunOptions


class Comparing:
    """Models opened and asked what they can do once, one ledger, one budget for all comparisons.

    Args:
        stack: What to close in the end.
        options: Limits and retries.
        ledger: Where outputs are kept: the same question is paid once.
        workers: The open models.
        make: Makes the graph of a pair.
    """

    def __init__(
        self, stack: ExitStack, options: "JudgeRunOptions", ledger: Ledger, workers: Sequence[CallWorker],
        make: GraphMaker,
    ) -> None:  # fmt: skip
        self.stack, self.budget = stack, Budget(options.limits)
        self._options, self._ledger, self._workers, self._make = options, ledger, workers, make
        self._running = 0

    async def outcome(self, pair: Pair) -> Outcome:
        """Return what the network holds of a pair."""
        policy, owner = Policy(retries=self._options.retries), secrets.token_hex(8)  # each its own, for its claims
        graphs = [self._make((pair, ""))]
        run = GraphRun(
            graphs, self._workers, self._ledger, self.budget, self._options.item_limits, policy=policy, run_id=owner
        )
        self._running += 1
        try:
            told = await run.run_async()
        finally:
            self._running -= 1
            if not self._running:  # the connections belong to the running loop; others may be using them
                await run.close()
        return outcome_when(told.graphs[0], told.stop_reason)
