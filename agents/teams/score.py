"""What a loss says of an answer."""

from pydantic import BaseModel, ConfigDict, Field

SHOWN = 600
"""Characters of a text that feedback holds at most."""


class Score(BaseModel):
    """How good an answer is, from 0 to 1, and why: it may hold the gold answer, and is for training items alone."""

    model_config = ConfigDict(frozen=True)

    score: float = Field(ge=0, le=1)
    feedback: str


def tail(text: str, limit: int = SHOWN) -> str:
    """Return the end of a text, with a mark where something before it is left out."""
    plain = text.strip()
    return plain if len(plain) <= limit else f"[...] {plain[-limit:]}"


__all__ = ["SHOWN", "Score", "tail"]
