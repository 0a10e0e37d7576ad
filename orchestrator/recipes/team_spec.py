"""What runs of teams are: their specs. The text under a field is its help in schema, command line and docs."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from ...agents.teams.gradient_schemas import OPS
from ...errors import all_known
from ...models.endpoint_options import EndpointOptions
from .judge_spec import JudgeRunOptions

PROFILES = ("plait", "ann-paper", "textgrad", "gepa", "random")
CONTROLS = ("single", "best-of-n", "static", "oracle", "random", "ann-paper", "textgrad", "gepa", "plait")


class TeamRunOptions(JudgeRunOptions):
    """How a run of a team is carried out: speed, place and limits. No part of the result's bytes."""

    anyway: bool = False
    """Train although twelve plain prompts showed nothing to learn (`headroom: check`)."""
    allow_network: bool = False
    """Run agents' programs also where the host refuses namespaces: they can then reach the network, other processes
    and files of their user, the answers among them."""


class TeamFields(BaseModel):
    """What every run of a team is told."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    team: str | dict[str, Any]
    """The team: a .yaml or .json file, or the team itself."""
    model: str = "smollm2-135m"
    """Model of agents that name none: a model source (runs on a host of ours), openai:NAME@https://host/v1, or
    replay:FILE."""
    judge: str | None = None
    """Model that scores free text (creative writing), and is asked for nothing else; default: the agents'."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Numbers that hosts compute in."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where hosts run."""
    endpoint: EndpointOptions = EndpointOptions()
    """How endpoints are asked: temperature, token_field, extra, headers, key_variable, api_version."""
    endpoints: dict[str, EndpointOptions] = {}
    """The same for one model, by its name as it stands in this spec or in the team; what is set here goes before
    `endpoint`."""
    data: str = "plait:numbers"
    """Items: plait:NAME, or a JSON-lines file in Plait's form or in that of a public set; FILE#TASK for a part."""
    limit: PositiveInt | None = None
    """Use so many of the items of `data`, drawn by seed."""
    prompts: str | None = None
    """Folder of prompt files that replace Plait's own."""
    prices: str | None = None
    """Price table, YAML or JSON: US dollars a million tokens by model."""
    seed: int = 0
    """Every random draw follows from it."""
    run: TeamRunOptions = TeamRunOptions()
    """How the run is carried out; changes no result, but that `budget_calls` settles what `validation` leaves open."""

    @model_validator(mode="after")
    def _in_one_process(self) -> Self:
        if self.run.shards > 1:
            raise ValueError("run.shards: 1, a team's passes run in one process")
        return self


class SplitFields(TeamFields):
    """What is told where items are dealt into splits."""

    test_data: str | None = None
    """Items of the test split, where they are a file of their own."""
    train: PositiveInt = 100
    """Items that critiques may see, answers included."""
    validation: PositiveInt | None = None
    """Items that the gate decides on; default: 300, or where `run.budget_calls` pays for few challengers on so many,
    down to 100 (docs/teams.md). A run folder keeps the number, so that a resumed run has the same items."""
    confirm: PositiveInt = 400
    """Items on which start and final team meet once; what bounds the run's error."""
    test: NonNegativeInt = 0
    """Items scored once, after the confirmation; 0 for none."""
    level: float = Field(default=0.05, gt=0, lt=1)
    """Error level of the confirmation, and of the search for headroom."""


class TeamRunSpec(TeamFields):
    """Run a team over items, and score its answers."""

    method: Literal["team-run"] = "team-run"
    """The recipe."""


class TeamHeadroomSpec(SplitFields):
    """Ask whether a task has anything to learn: plain prompts of one agent on training items."""

    method: Literal["team-headroom"] = "team-headroom"
    """The recipe."""
    items: PositiveInt = 100
    """Training items used at most."""


class TeamTrainSpec(SplitFields):
    """Train a layered team of language-model agents by textual backpropagation (ANN, arXiv 2506.09046)."""

    method: Literal["team"] = "team"
    """The recipe."""
    optimiser: str | None = None
    """Model that criticises and repairs; default: the agents'. Weak critics are the method's known limit."""
    optimiser_tokens: PositiveInt = 1024
    """Tokens of one critique or repair at most; longer answers are cut off and cannot be read."""
    profile: Literal["plait", "ann-paper", "textgrad", "gepa", "random"] = "plait"
    """Search settings: ours, as published, or those of a rival."""
    steps: PositiveInt = 10
    """Steps of the search (ann-paper: epochs) at most."""
    edits: tuple[str, ...] = ()
    """What patches may change, such as [set_instructions]: prompts alone; () for all that the profile changes."""
    memory: bool = True
    """Whether repairs are shown what became of earlier edits."""
    redraw: bool = False
    """Whether an adopted team's validation answers are drawn anew, which turns the ratchet of lucky draws off."""
    controls: tuple[str, ...] = ("single", "best-of-n", "random")
    """What runs beside: single (one agent, plain prompt), best-of-n (as many samples of it as the start team's tokens
    pay for), static (no selection), oracle (the best block of each layer by the key), random (random edits through
    the same gate), or other profiles."""
    headroom: Literal["check", "skip"] = "skip"
    """`check`: try twelve plain prompts first, and refuse to train where they show nothing to learn."""
    again: bool = False
    """Allow a second pass over the confirm and test splits; the report is stamped with it."""

    @field_validator("edits")
    @classmethod
    def _known_edits(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return all_known(names, OPS, "edits")

    @field_validator("controls")
    @classmethod
    def _known_controls(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return all_known(names, CONTROLS, "controls")

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if self.profile in self.controls:
            raise ValueError("controls other than the profile itself")
        return self

    @property
    def searches(self) -> tuple[str, ...]:
        """Profiles that are run: the run's own, then those among the controls."""
        return (self.profile, *(name for name in self.controls if name in PROFILES))
