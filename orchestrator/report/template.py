"""What every report's page shares: the templates' environment and how numbers are written. Knows no method."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Return the environment of the page templates: text is escaped, an unknown name is an error."""
    made = Environment(
        loader=PackageLoader("plait.orchestrator.report", "templates"), autoescape=True, undefined=StrictUndefined
    )
    made.filters |= {"percent": percent, "interval": interval, "points": points, "thousands": thousands}
    return made


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(value: dict[str, Any] | None) -> str:
    """Return `61.0 % [51.0, 71.0]`, a share with its 95 % interval."""
    if value is None or value["mean"] is None:
        return "–"
    if value["low"] is None:
        return percent(value["mean"])
    return f"{100 * value['mean']:.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def points(value: dict[str, Any] | None) -> str:
    """Return `+3.0 [-1.0, 7.0]`, a difference in percentage points with its 95 % interval."""
    if value is None or value["mean"] is None:
        return "–"
    if value["low"] is None:
        return f"{100 * value['mean']:+.1f}"
    return f"{100 * value['mean']:+.1f} [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"


def thousands(value: float) -> str:
    """Return a count with thin spaces."""
    return f"{value:,.0f}".replace(",", "\u202f")
