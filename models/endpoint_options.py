"""What a user sets of an endpoint: what is sent beside the messages, and how it is signed. Pure; holds no secret.

Reasoning models and gateways differ from OpenAI's first form of a request: some take no temperature, some name the
answer's limit otherwise, some want fields, headers or a version of their own. Values that must stay secret are named
by environment variables and never stand here.
"""

import os
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import SpecError
from ..records import JSON, canonical
from .redaction import watch

TokenField = Literal["max_tokens", "max_completion_tokens"]

_OURS = {
    "model": "the model's name, openai:NAME", "messages": "the method", "stream": "whole answers are read",
    "n": "one answer is read", "logprobs": "the method", "top_logprobs": "the method", "stop": "the method",
    "temperature": "endpoint.temperature", "max_tokens": "endpoint.token_field and the method",
    "max_completion_tokens": "endpoint.token_field and the method", "continue_final_message": "the method",
    "add_generation_prompt": "the method",
}  # fmt: skip
"""Fields of a body that `extra` may not hold, and what sets them."""
_SECRET = re.compile(r"auth|key|token|secret|cookie|credential|password|signature", re.IGNORECASE)
_KEY = re.compile(
    r"(?:bearer|basic|token)\s|(?:sk|pk|rk|pc|gsk|xai|hf|ghp|glpat)[-_][-_A-Za-z0-9]{12,}|(?:AIza|eyJ)[-_A-Za-z0-9]{16,}",
    re.IGNORECASE,
)
"""How keys and tokens of providers begin."""
_RANDOM = re.compile(r"(?=\S*[A-Za-z])(?=\S*[0-9])[A-Za-z0-9+/=]{24,}")
"""A long text without a word in it."""
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class EndpointOptions(BaseModel):
    """How an endpoint is asked. What is not set here follows the endpoint: a refused field of ours is left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    temperature: Annotated[float, Field(ge=0, le=2)] | Literal["off"] | None = None
    """Sent in place of the method's own; off sends none, as reasoning models want it. Default: the method's, and none
    where the endpoint refuses it."""
    token_field: TokenField | None = None
    """What limits an answer's tokens. Default: max_completion_tokens at OpenAI and Azure, max_tokens elsewhere; the
    other one where it is refused."""
    extra: dict[str, JSON] = {}
    """Further fields of every request's body: reasoning_effort, chat_template_kwargs, provider, ..."""
    headers: dict[str, str] = {}
    """Further headers of every request. $NAME or ${NAME} stands for that environment variable's value; headers that
    carry a secret are given so, and replace the key's own."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; it may be unset: local endpoints want none."""
    api_version: str | None = None
    """Sent as ?api-version=, as Azure wants it."""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "EndpointOptions":
        """Return the options that `fields` give by name.

        Raises:
            SpecError: a name is unknown, or a value cannot be.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(["endpoint", *map(str, first["loc"])])
            message = first["msg"].removeprefix("Value error, ")
        # outside of `except`: the error holds the values, and a header's may be a key
        raise SpecError(place, "another value", message)

    @field_validator("temperature", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        if isinstance(value, bool):  # YAML reads a bare off as false, and JSON has no other word for it
            if value:
                raise ValueError("off, or a number of 0 to 2")
            return "off"
        return value

    @field_validator("extra")
    @classmethod
    def _ours_are_ours(cls, extra: dict[str, JSON]) -> dict[str, JSON]:
        for name in extra:
            if name in _OURS:
                raise ValueError(f"{name} is none of it: set by {_OURS[name]}")
        try:
            written = canonical(extra)
        except (TypeError, ValueError) as error:
            raise ValueError(f"values that JSON has: {error}") from None
        if any(_KEY.match(text) for text in re.findall(r'"([^"\\]*)', str(written))):
            raise ValueError("a field that is a key by its looks: secrets go into headers, by $NAME")
        return extra

    @field_validator("headers")
    @classmethod
    def _no_secret(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER.fullmatch(name):
                raise ValueError(f"{name!r}: the name of a header")
            if variable_of(value) is None:
                if _SECRET.search(name) or _KEY.match(value.strip()) or _RANDOM.fullmatch(value.strip()):
                    raise ValueError(f"{name}: a secret is not written here; $NAME names its environment variable")
                if not (value.isascii() and value.isprintable()):
                    raise ValueError(f"{name}: printable ASCII text, or $NAME of an environment variable")
        return headers

    @field_validator("key_variable")
    @classmethod
    def _a_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ValueError("the name of an environment variable, not a key")
        return name

    @field_validator("api_version")
    @classmethod
    def _plain(cls, version: str | None) -> str | None:
        if version is not None and not re.fullmatch(r"[\w.-]+", version):
            raise ValueError("a version such as 2024-10-21")
        return version

    @property
    def signed(self) -> bool:
        """Whether the headers carry a key, so that none is sent beside them."""
        return any(_SECRET.search(name) for name in self.headers)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The environment variables that are sent."""
        found = [variable for value in self.headers.values() if (variable := variable_of(value))]
        return tuple(found if self.signed else [self.key_variable, *found])

    @property
    def answering(self) -> dict[str, JSON]:
        """What of it an answer may depend on, for ledger keys: only what is set, and no secret's value."""
        values = {
            "temperature": self.temperature, "extra": self.extra or None, "headers": self.headers or None,
            "api_version": self.api_version,
        }  # fmt: skip
        return {name: value for name, value in values.items() if value is not None}

    def sent_headers(self) -> dict[str, str]:
        """Return the headers with the environment's values.

        Raises:
            SpecError: a variable is not set, or holds what no header may carry.
        """
        found = {}
        for name, value in self.headers.items():
            variable = variable_of(value)
            if variable is not None:
                watch(variable)
                value = os.environ.get(variable, "").strip()
                if not value or not (value.isascii() and value.isprintable()):
                    wrong = "holds what no header may carry" if value else "is not set"
                    raise SpecError(f"endpoint.headers.{name}", f"${variable}", f"a value in it: {variable} {wrong}")
            found[name] = value
        return found


def variable_of(value: str) -> str | None:
    """Return the environment variable that a header's value names; None where it is a text of its own."""
    match = _VARIABLE.fullmatch(value.strip())
    return None if match is None else match[1] or match[2]


__all__ = ["EndpointOptions", "TokenField", "variable_of"]
