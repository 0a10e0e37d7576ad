"""Calls that start together go out one after the other, each whole before the next is prepared.

aiohttp hands a request's bytes to a task of its own (before Python 3.12), which runs when all that is ready has run: of
twelve calls started at once, none would be on its way before the twelfth was prepared. Taken in turns the server
answers the first while the last is prepared, and answers come in one by one. Must not know requests.
"""

import asyncio
from collections import deque


class Turns:
    """Lets one caller through in each pass of the event loop; in the order of asking."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False

    async def take(self) -> None:
        """Return at once where nobody took this pass, else when the pass is the caller's."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._next)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        """Wake whoever is next, and come again after it has run."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its caller was cancelled
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._taken = False


__all__ = ["Turns"]
