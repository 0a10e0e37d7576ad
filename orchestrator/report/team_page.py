"""One self-contained HTML page a training run of a team."""

from html import escape

from ...records import JSON, canonical


def render(result: dict[str, JSON], timing: dict[str, JSON]) -> str:
    """Return the page of a result; `timing` may be empty."""
    return f"<!doctype html><meta charset=utf-8><title>Plait</title><pre>{escape(canonical(result))}</pre>"
