"""How many calls an endpoint gets at once, learnt from its answers. Pure: the clock is handed in.

Additive increase, multiplicative decrease (Chiu and Jain, 1989): a window of calls in flight grows by one a round
trip while answers come as fast as they ever did, doubles a round trip until the first refusal, and is halved once
for each burst of refusals. A refusal's Retry-After delays the refused call alone (the paying path sees to it); it
never stops the others, since a long one would freeze a run whose window is already right.
"""

import math
from collections import deque
from dataclasses import dataclass, field

SLOW = 2.0
"""Latency, as a multiple of the lowest seen (smoothed), beyond which a window no longer grows."""
CUT = 0.5
MINUTE = 60.0


@dataclass
class Limiter:
    """The limits of one endpoint.

    Attributes:
        most: Calls in flight at most.
        window: Calls in flight now allowed, a fraction counts towards the next.
        requests_per_minute: Calls started in any minute at most; None: no such limit.
        tokens_per_minute: Tokens (upper price) started in any minute at most; None: no such limit.
    """

    most: int = 64
    window: float = 16.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    _smooth: dict[str, float] = field(default_factory=dict)
    _fastest: dict[str, float] = field(default_factory=dict)
    _ramping: bool = True
    _cut_at: float = -math.inf
    _started: "deque[tuple[float, int, int]]" = field(default_factory=deque)
    _tokens: int = 0
    _requests: int = 0

    def __post_init__(self) -> None:
        self.window = min(self.window, float(self.most))

    @property
    def slots(self) -> int:
        """Calls that may be in flight."""
        return max(1, int(self.window))

    @property
    def counts(self) -> bool:
        """Whether it needs to know how many requests and tokens a call is."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None

    def ready_at(self, now: float, tokens: int, requests: int = 1) -> float:
        """Return when a call of `tokens` and `requests` may start: `now`, or when enough of the last minute has passed.

        A single call above a limit waits for an empty minute and then goes.
        """
        while self._started and self._started[0][0] <= now - MINUTE:
            _, spent, made = self._started.popleft()
            self._tokens -= spent
            self._requests -= made
        when, left_tokens, left = now, self._tokens, self._requests
        for started, spent, made in self._started:
            over_requests = self.requests_per_minute is not None and left + requests > self.requests_per_minute
            over_tokens = self.tokens_per_minute is not None and left_tokens + tokens > self.tokens_per_minute
            if not over_requests and not over_tokens:
                break
            when, left, left_tokens = started + MINUTE, left - made, left_tokens - spent
        return when

    def started(self, now: float, tokens: int, requests: int = 1) -> None:
        """Count a call that starts."""
        if self.counts:
            self._started.append((now, tokens, requests))
            self._tokens += tokens
            self._requests += requests

    def answered(self, latency: float, kind: str = "") -> None:
        """Learn that a call was answered after `latency` seconds; calls of one `kind` are compared with each other."""
        before = self._smooth.get(kind, latency)
        smooth = self._smooth[kind] = 0.8 * before + 0.2 * latency
        fastest = self._fastest[kind] = min(self._fastest.get(kind, math.inf), smooth)
        if smooth > SLOW * fastest:
            self._ramping = False
            return
        self.window = min(float(self.most), self.window + (1.0 if self._ramping else 1.0 / self.window))

    def refused(self, now: float) -> None:
        """Learn that the endpoint refused a call for its rate: halve the window, once a burst."""
        self._ramping = False
        if now - self._cut_at > max([1.0, *self._smooth.values()]):
            self.window = max(1.0, self.window * CUT)
            self._cut_at = now
