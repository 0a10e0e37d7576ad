"""What a run that cuts a language model is: its spec. The text under a field is its help everywhere."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator

from ...models.cut_distill import Distillation
from ..data import SHIPPED
from .cola_spec import RunOptions
from .compress_target import Target


class CompressDecoderSpec(BaseModel):
    """Find a smaller decoder by dropping blocks and narrowing feed-forward layers, and distil it on a small text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    method: Literal["compress-decoder"] = "compress-decoder"
    """The recipe."""
    teacher: str = "smollm2-135m"
    """Model source: an alias, hf:org/name@rev, a folder, gguf:file or pypi:package==version#file."""
    data: tuple[str, ...] = Field(min_length=1)
    """Text to distil on and to choose by: files of paragraphs (.txt) or JSON lines (.jsonl; FILE#FIELD names the field,
    else `text` or `question`). Each is split into fit, validation and test; several take turns."""
    other: tuple[str, ...] = ()
    """Text of another kind, on which perplexity is measured and nothing else."""
    questions: str = SHIPPED
    """Multiple-choice questions to score; no text equal to one of them is trained on."""
    limit: PositiveInt | None = 200
    """Use the first so many questions."""
    rule: Literal["sum", "token", "byte"] = "token"
    """How options are compared: log-probability summed, or per token, or per byte."""
    target: str = "params=0.8x"
    """What the student may have: params or bytes (of float32), as a number or a share (0.8x) of the teacher's."""
    uniform: bool = False
    """Give all blocks of a cut one width, so that every student is a folder that transformers loads by itself."""
    evaluations: PositiveInt = 40
    """Cuts that the policy may try, untrained, on the validation text; its prior and random search have as many."""
    random_blocks: NonNegativeInt = 3
    """Controls that drop as many blocks as block influence does, by lot."""
    steps: NonNegativeInt = 16
    """Distillation steps of every finalist and control."""
    batch: PositiveInt = 4
    """Sequences a step."""
    rate: float = Field(default=5e-4, gt=0)
    """Highest learning rate."""
    loss: Literal["kl", "mse"] = "kl"
    """Between the teacher's logits and the student's."""
    temperature: float = Field(default=1.0, gt=0)
    """Of both distributions, under kl."""
    length: int = Field(default=128, ge=2)
    """Tokens of a sequence; perplexities are over sequences of this length, each from its own start."""
    fit: PositiveInt = 64
    """Sequences to distil on."""
    calibration: PositiveInt = 16
    """Of those, sequences that block influence and channel importance are measured on."""
    validation: PositiveInt = 8
    """Sequences that the searches' rewards and the choice are measured on."""
    test: PositiveInt = 32
    """Sequences of each text that the reported perplexities are measured on, once."""
    export: bool = True
    """Make the chosen student again at the end and save it in the run folder."""
    seed: int = 0
    """Every random draw follows from it."""
    run: RunOptions = RunOptions()
    """How the run is carried out; changes no result."""

    @field_validator("data", "other", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("target")
    @classmethod
    def _of_parameters(cls, text: str) -> str:
        if Target.parse(text).measure not in ("params", "bytes"):
            raise ValueError("params=0.8x, params=100M, bytes=0.8x or bytes=400M")
        return text

    @property
    def distillation(self) -> Distillation:
        """How students are trained."""
        return Distillation(self.batch, self.rate, self.loss, self.temperature)

    def most_params(self, full: int) -> int:
        """Return the parameters that a student may have, given the teacher's."""
        target = Target.parse(self.target)
        if target.measure == "bytes":
            return int(target.limit(4 * full) / 4)
        return int(target.limit(full))
