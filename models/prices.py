"""A user's own price table: US dollars a million tokens, by model name. Must not know budgets or endpoints.

    dated: 2026-11-01
    gpt-4o-mini: {prompt: 0.15, completion: 0.60, cached: 0.075}
    "llama-*": {prompt: 0, completion: 0}

No price is shipped: what is written in a program is wrong a month later. A model that is not in the table has no
price, and a money budget refuses it: an unknown price is not zero.
"""

import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import DataError, SpecError
from ..user_files import Unreadable, file_text, json_value, yaml_value
from .chat import TokenPrice

_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


class ModelPrice(BaseModel):
    """Prices of one model, US dollars a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt: _Dollars
    """Tokens sent."""
    completion: _Dollars
    """Tokens answered, thinking included."""
    cached: _Dollars | None = None
    """Tokens sent that the provider had in its cache; absent: as `prompt`."""


class PriceTable(BaseModel):
    """Prices by model name or glob (`*`, `?`, `[]`), and the day on which they were looked up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: dict[str, ModelPrice]
    dated: datetime.date | None = None
    source: str = "price table"

    @classmethod
    def load(cls, file: Path | str) -> Self:
        """Read a YAML or JSON file.

        Raises:
            SpecError: it cannot be read, or an entry is no price; the line names the entry.
        """
        path = Path(file)
        try:
            text = file_text(path, str(path), "a YAML or JSON price table that can be read")
            table = json_value(text) if path.suffix == ".json" else yaml_value(text)
        except DataError as error:
            raise SpecError(error.where, error.got, error.expected) from error
        except Unreadable as error:
            raise SpecError(str(path), str(error)[:200], "a YAML or JSON price table that can be read") from error
        if not isinstance(table, dict):
            raise SpecError(str(path), type(table).__name__, "a table of model names and prices")
        return cls.parse(table, str(path))

    @classmethod
    def parse(cls, table: dict[Any, Any], source: str = "price table") -> Self:
        """Check a table as it stands in a file."""
        models = {name: price for name, price in table.items() if name != "dated"}
        try:
            return cls.model_validate({"models": models, "dated": table.get("dated"), "source": source})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"] if part != "models")
            expected = "{prompt, completion, cached}: US dollars a million tokens, 0 or more"
            raise SpecError(f"{source}: {place}", first["input"], f"{expected} ({first['msg'].lower()})") from error

    def of(self, model: str) -> TokenPrice | None:
        """Return the price of `model`: its own entry, else the longest glob that matches; None where there is none."""
        entry = self.models.get(model)
        if entry is None:
            matching = [name for name in self.models if fnmatchcase(model, name)]
            if not matching:
                return None
            entry = self.models[max(matching, key=lambda name: (len(name), name))]
        return TokenPrice(entry.prompt, entry.completion, entry.cached)

    def require(self, model: str) -> TokenPrice:
        """Return the price of `model`, for a budget of money.

        Raises:
            SpecError: the table has none.
        """
        price = self.of(model)
        if price is None:
            raise SpecError(
                self.source, model, "a price for this model: a budget in US dollars cannot be kept without one"
            )
        return price


__all__ = ["ModelPrice", "PriceTable"]
