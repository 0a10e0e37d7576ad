"""Budgets that hold under concurrency: the upper price is reserved before dispatch and settled after."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace

from ..errors import SpecError

_COUNTED = ("evaluations", "calls", "tokens", "usd")


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a run may spend; None: no limit.

    Attributes:
        evaluations: Outcomes paid for; what the ledger holds already is free.
        calls: Calls to endpoints.
        tokens: Tokens of endpoints, in and out.
        usd: Money, in US dollars.
        seconds: Wall time of this start of the run.
    """

    evaluations: int | None = None
    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and value < 0:
                raise SpecError(f"budget.{limit.name}", value, "0 or more")

    def less(self, spent: Mapping[str, float]) -> "Limits":
        """Return what is left of each amount once `spent` is taken away."""
        left = {name: max(0, limit - spent[name]) for name in _COUNTED if (limit := getattr(self, name)) is not None}
        whole = {name: value if name == "usd" else int(value) for name, value in left.items()}
        return replace(self, **whole)


@dataclass(frozen=True, slots=True)
class Price:
    """What one evaluation costs at most. `usd=None`: not known, which a money budget refuses."""

    calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0


FREE = Price()


@dataclass
class Budget:
    """What was spent and what is reserved, against limits.

    Attributes:
        limits: The most that may be spent.
        clock: Seconds, monotonic.
    """

    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.monotonic
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0.0))
    _reserved: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0.0))
    _started: float = 0.0

    def __post_init__(self) -> None:
        self._started = self.clock()

    def check(self, price: Price) -> None:
        """Refuse a price that cannot be held to: money is limited and the price is not known."""
        if self.limits.usd is not None and price.usd is None:
            raise SpecError("budget.usd", self.limits.usd, "a known price for every endpoint; give a price table")

    def reserve(self, price: Price) -> str | None:
        """Set the upper price aside; return None, or the name of the limit that it would break."""
        if self.limits.seconds is not None and self.clock() - self._started >= self.limits.seconds:
            return "seconds"
        parts = _parts(price)
        for name, part in parts.items():
            limit = getattr(self.limits, name)
            if limit is not None and self.spent[name] + self._reserved[name] + part > limit:
                return name
        for name, part in parts.items():
            self._reserved[name] += part
        return None

    @property
    def waiting(self) -> bool:
        """Whether something is reserved and not settled: what it leaves over may yet pay for more."""
        return self._reserved["evaluations"] > 0

    def release(self, price: Price) -> None:
        """Give a reservation back: nothing was asked, and nothing is owed."""
        for name, part in _parts(price).items():
            self._reserved[name] -= part

    def settle(self, price: Price, cost: Mapping[str, float], *, whole: bool = True) -> None:
        """Replace a reservation by what it took; what `cost` does not name took its upper price.

        `whole=False` is an attempt that failed and is repeated: what it does not name took nothing, and it is no
        evaluation.
        """
        self.release(price)
        for name, part in _parts(price).items():
            if name == "evaluations":
                self.spent[name] += whole
            else:
                self.spent[name] += cost.get(name, part if whole else 0.0)

    def count(self, cost: Mapping[str, float], *, whole: bool = True) -> None:
        """Count what this run paid for before it was interrupted; `whole=False` for a failed attempt."""
        for name in _COUNTED:
            self.spent[name] += whole if name == "evaluations" else cost.get(name, 0.0)

    @property
    def seconds_left(self) -> float | None:
        """Wall time that is left, 0 once it has run out; None without a limit."""
        return None if self.limits.seconds is None else max(0.0, self.limits.seconds - self.seconds)

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return self.clock() - self._started


def _parts(price: Price) -> dict[str, float]:
    return {"evaluations": 1.0, "calls": price.calls, "tokens": price.tokens, "usd": price.usd or 0.0}
