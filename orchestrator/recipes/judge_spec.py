"""What a judge run is: its spec. The text under a field is its help in schema, command line and docs."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from ...candidates import NETWORKS, JudgeNetwork
from ...errors import nearest
from ...models.endpoint_options import EndpointOptions
from ..budget import Limits
from .judge_data import SHIPPED


class JudgeRunOptions(BaseModel):
    """How a run is carried out: speed, place and limits. No part of the result's bytes or of the run's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    actors: PositiveInt = 2
    """Model hosts of each local model, one core each on the CPU; endpoints need none."""
    shards: PositiveInt = 1
    """Processes that the items are spread over; 1 runs them in this one, more are actors of the cluster."""
    concurrency: PositiveInt = 64
    """Calls in flight at most, at each model; how many of them are used is learnt from its answers."""
    requests_per_minute: PositiveInt | None = None
    """Calls started in any minute at most, at each model."""
    tokens_per_minute: PositiveInt | None = None
    """Tokens started in any minute at most, at each model, by their upper count."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds that a call of an endpoint may take."""
    retries: NonNegativeInt = 3
    """Repeats of a call that failed for a reason that may pass."""
    ledger: str | None = None
    """Where outputs are kept: a path, sqlite:///path or postgresql+psycopg://...; default: in the run folder. A URL's
    password is not written into the run folder: PGPASSWORD, or the URL given again, brings it to a resumed run."""
    budget_calls: NonNegativeInt | None = None
    """Calls to pay for at most; reaching it ends the run with a valid partial result."""
    budget_tokens: NonNegativeInt | None = None
    """Tokens in and out to pay for at most."""
    budget_usd: float | None = Field(default=None, ge=0)
    """US dollars at most; needs a price for every model."""
    budget_seconds: float | None = Field(default=None, ge=0)
    """Seconds of wall time at most."""
    model_calls: NonNegativeInt | None = None
    """Calls that each model may be asked for in one start; its nodes fail with BudgetReached then."""
    model_tokens: NonNegativeInt | None = None
    """Tokens that each model may be asked for in one start."""
    item_calls: NonNegativeInt | None = None
    """Calls that one item may take at each network in one start, repeats included; a neuron it has nothing left for
    fails with BudgetReached, so that, unlike the other options here, it may change what is decided."""
    item_tokens: NonNegativeInt | None = None
    """Tokens that one item may take at each network in one start."""
    max_failures: float = Field(default=0.1, ge=0, le=1)
    """Share of the calls that may fail; above it the result is still written, and the command exits with 1."""

    @property
    def limits(self) -> Limits:
        """The run's limits."""
        return Limits(
            calls=self.budget_calls, tokens=self.budget_tokens, usd=self.budget_usd, seconds=self.budget_seconds
        )

    @model_validator(mode="after")
    def _can_be_shared(self) -> "JudgeRunOptions":
        shared = ("requests_per_minute", "tokens_per_minute", "model_calls", "model_tokens")
        for name in shared if self.shards > 1 else ():
            value = getattr(self, name)
            if value is not None and value < self.shards:
                raise ValueError(f"{name}: {self.shards} or more, one a shard, or fewer shards")
        return self

    def share(self, of: int) -> "JudgeRunOptions":
        """Return the options of one of `of` processes that call the same models: their rates divided."""

        def part(limit: int | None) -> int | None:
            return None if limit is None else limit // of

        rates = ("concurrency", "requests_per_minute", "tokens_per_minute", "model_calls", "model_tokens")
        return self.model_copy(update={name: part(getattr(self, name)) for name in rates})

    @property
    def model_limits(self) -> Limits | None:
        """Each model's limits, if there are any."""
        if self.model_calls is None and self.model_tokens is None:
            return None
        return Limits(calls=self.model_calls, tokens=self.model_tokens)

    @property
    def item_limits(self) -> Limits | None:
        """Each item's limits, if there are any."""
        if self.item_calls is None and self.item_tokens is None:
            return None
        return Limits(calls=self.item_calls, tokens=self.item_tokens)


class JudgeSpec(BaseModel):
    """A network of LLM judges over pairs of answers (WideDeep, arXiv 2308.01862)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    method: Literal["judge"] = "judge"
    """The recipe."""
    model: tuple[str, ...] = ("smollm2-135m",)
    """Judges: a model source (runs on a host of ours), openai:NAME@https://host/v1 (key from OPENAI_API_KEY), or
    replay:FILE. Several make a panel: every angle is judged by each."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Numbers that hosts compute in; float32 is the reference."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where hosts run."""
    endpoint: EndpointOptions = EndpointOptions()
    """How endpoints are asked: temperature, token_field, extra, headers, key_variable, api_version."""
    endpoints: dict[str, EndpointOptions] = {}
    """The same for one model, by its name as it stands in this spec; what is set here goes before
    `endpoint`."""
    data: str = SHIPPED
    """JSON lines of id, query, response1, response2 and, where known, human; plait:pairs are those that come with
    Plait."""
    labels: str | None = None
    """JSON lines of id and human, where the labels are in a file of their own."""
    limit: PositiveInt | None = None
    """Use the first so many pairs."""
    network: str = "wide"
    """The network's shape by name: paper, released, wide, adaptive, single or faireval."""
    shape: dict[str, Any] = {}
    """Fields of the network that differ from its name's: depth, angles, topology, tie_band, ..."""
    prompts: str | None = None
    """Folder of prompt files that replace Plait's own."""
    prices: str | None = None
    """Price table, YAML or JSON: US dollars a million tokens by model."""
    slice: NonNegativeInt | None = None
    """Labelled items on which tie band, weights and temperature are fitted, left out of every figure; default: a
    tenth, at least 20, where there are 60 or more."""
    baselines: tuple[str, ...] | None = None
    """Other networks run beside, by name; default: a single judge, and k samples of it where scores are text."""
    seed: int = 0
    """Every random draw follows from it."""
    run: JudgeRunOptions = JudgeRunOptions()
    """How the run is carried out; changes no result."""

    @field_validator("model", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("model")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("one model or more, each once")
        return value

    @field_validator("network")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NETWORKS:
            raise ValueError("a known network: " + nearest(name, list(NETWORKS)))
        return name

    @field_validator("baselines")
    @classmethod
    def _all_known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            cls._known(name)
        return names

    @model_validator(mode="after")
    def _shape_fits(self) -> "JudgeSpec":
        unknown = [name for name in self.shape if name not in JudgeNetwork.model_fields]
        if unknown:
            raise ValueError(
                f"shape.{unknown[0]}: a field of a network: {nearest(unknown[0], list(JudgeNetwork.model_fields))}"
            )
        _ = self.judges
        return self

    @property
    def judges(self) -> JudgeNetwork:
        """The network that is run."""
        return JudgeNetwork(**{**NETWORKS[self.network].model_dump(), **self.shape})

    @property
    def beside(self) -> dict[str, JudgeNetwork]:
        """The networks run beside it, asked in the way its last layer is."""
        scoring, family = self.judges.scoring, self.judges.family
        names = self.baselines
        if names is None:
            names = ("single", "faireval") if scoring == "text" else ("single",)
        change = {"scoring": scoring, "family": family}
        return {
            name: NETWORKS[name].model_copy(update=change if name == "single" else {"family": family}) for name in names
        }
