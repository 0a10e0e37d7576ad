"""What a compressed network may cost: `params=0.2x`, `macs=1.5M`, `bytes=64k`, `ms=0.8`. Knows no search."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, get_args

from ...architectures import Architecture
from ...errors import SpecError

Measure = Literal["params", "macs", "bytes", "ms"]
BYTES = 4
"""Of a float32 weight."""

UNITS = {"params": "parameters", "macs": "MACs", "bytes": "bytes", "ms": "ms"}
"""What a cost is counted in, as people read it."""
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_TEXT = re.compile(r"\s*([a-z]+)\s*=\s*([0-9]*\.?[0-9]+)\s*([kMGx]?)\s*")
EXPECTED = "a measure and a limit: params=0.2x, macs=1.5M, bytes=64k or ms=0.8"


@dataclass(frozen=True)
class Target:
    """A limit on what a network costs.

    Attributes:
        measure: `params`, `macs` for one example, `bytes` of float32 weights, or `ms` for one example on this device.
        value: The limit, or the share of the teacher's cost.
        relative: Whether `value` is a share.
    """

    measure: Measure
    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the target that `text` names.

        >>> Target.parse("params=0.2x").limit(1000)
        200.0

        Raises:
            SpecError: it names none, or nothing that a network can meet.
        """
        match = _TEXT.fullmatch(text)
        if match is None or match[1] not in get_args(Measure):
            raise SpecError("target", text, EXPECTED)
        value, unit = float(match[2]), match[3]
        if not value or (unit == "x" and value >= 1):
            raise SpecError("target", text, "a limit above 0 and, as a share of the teacher, below 1x")
        return cls(match[1], value if unit == "x" else value * _UNITS[unit], unit == "x")  # type: ignore[arg-type]

    def limit(self, teacher: float) -> float:
        """Return the limit, given what the teacher costs."""
        return self.value * teacher if self.relative else self.value

    def said(self, value: float) -> str:
        """Return a cost by this measure with its unit.

        >>> Target.parse("ms=0.2").said(0.2)
        '0.2 ms'
        """
        number = f"{value:.4g}" if self.measure == "ms" else f"{value:,.0f}".replace(",", "\u202f")
        return f"{number} {UNITS[self.measure]}"

    def cost(self, latency: Callable[[Architecture], float] | None = None) -> Callable[[Architecture], float]:
        """Return what a network costs by this measure; `latency` predicts milliseconds."""
        if self.measure == "ms":
            assert latency is not None, "milliseconds need a latency table"
            return latency
        return COSTS[self.measure]


def _params(net: Architecture) -> float:
    return float(net.params)


def _macs(net: Architecture) -> float:
    return float(net.macs)


def _bytes(net: Architecture) -> float:
    return float(BYTES * net.params)


COSTS: dict[str, Callable[[Architecture], float]] = {"params": _params, "macs": _macs, "bytes": _bytes}
"""Costs that the architecture alone decides."""
