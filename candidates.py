"""What is searched over: frozen values, parsed and printed, nothing run. Imports no folder."""

import re
from functools import cached_property
from typing import Self

from pydantic import BaseModel, ConfigDict, field_validator

from .errors import SpecError
