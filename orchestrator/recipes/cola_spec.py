"""What a CoLa run is: its spec. The text under a field is its help in schema, command line and docs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator

from ...errors import nearest
from ...search.profiles import PROFILES
from ..data import SHIPPED, TEMPLATE


class RunOptions(BaseModel):
    """How a run is carried out: speed, place and limits. No part of the result's bytes or of the run's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    actors: PositiveInt = 2
    """Model hosts, one core each on the CPU; they share one copy of the weights on a node."""
    window: PositiveInt = 4
    """Items under search at once, per actor."""
    cache_mb: PositiveInt = 1024
    """Hidden states that each host keeps for reuse, in MiB."""
    ledger: str | None = None
    """Where outcomes are kept: a path, sqlite:///path or postgresql+psycopg://...; default: in the run folder. A URL's
    password is not written into the run folder: PGPASSWORD, or the URL given again, brings it to a resumed run."""
    budget_evaluations: NonNegativeInt | None = None
    """Evaluations to pay for at most; reaching it ends the run with a valid partial result."""
    budget_seconds: float | None = Field(default=None, ge=0)
    """Seconds of wall time at most."""
    max_failures: float = Field(default=0.1, ge=0, le=1)
    """Share of the evaluations that may fail; above it the result is still written, and the command exits with 1."""


class CoLaSpec(BaseModel):
    """Search over layer paths of one frozen decoder (CoLa, arXiv 2507.07996, section 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    method: Literal["cola"] = "cola"
    """The recipe."""
    model: str = "smollm2-135m"
    """Model source: an alias, hf:org/name@rev, a folder, gguf:file or pypi:package==version#file."""
    data: str = SHIPPED
    """JSON lines of id, question, choices, answer; plait:questions are those that come with Plait."""
    limit: PositiveInt | None = None
    """Use the first so many questions."""
    template: str = TEMPLATE
    """The prompt; {question} stands for the question. Options follow it with one leading space."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether a beginning-of-sequence token opens the prompt: auto does what the tokenizer does by itself."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Numbers that the layers compute in; float32 is the reference."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the hosts run."""
    profile: str = "plait"
    """Search settings: plait, cola-paper, polar-code, drllm or repolar."""
    simulations: PositiveInt = 100
    """Paths evaluated per item beside the identity (paper: 200; released code: 100)."""
    rule: Literal["sum", "token", "byte"] = "token"
    """How options are compared: log-probability summed, or per token, or per byte."""
    reward: Literal["right", "margin"] = "right"
    """What the search maximises: 1 for a right answer (paper), or also how near a wrong one is to being right."""
    random_baseline: bool = True
    """Run random search at the same budget beside the search."""
    dev_fraction: float = Field(default=0.5, gt=0, lt=1)
    """Share of the items on which the label-free choice is fixed; it is judged on the others."""
    menu: NonNegativeInt = 8
    """Candidate paths for the label-free choice, taken from the dev items' searches; 0 leaves it out."""
    verify: bool = True
    """Run each reported path again alone, nothing shared or batched, and count what changes."""
    seed: int = 0
    """Every random draw follows from it."""
    ask: PositiveInt = 4
    """Paths that one item's search proposes at once."""
    lag: PositiveInt = 8
    """Paths that may be asked and not yet told, per item; the result depends on ask and lag, never on actors."""
    run: RunOptions = RunOptions()
    """How the run is carried out; changes no result."""

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, name: str) -> str:
        if name not in PROFILES:
            raise ValueError("a known profile: " + nearest(name, sorted(PROFILES)))
        return name

    @field_validator("template")
    @classmethod
    def _has_question(cls, template: str) -> str:
        if "{question}" not in template:
            raise ValueError("a text with {question} in it")
        return template

    @field_validator("lag")
    @classmethod
    def _lag_covers_ask(cls, lag: int, info: object) -> int:
        ask = getattr(info, "data", {}).get("ask", 1)
        if lag < ask:
            raise ValueError(f"at least ask ({ask})")
        return lag
