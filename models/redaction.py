"""Keeps secrets out of what is written: errors, logs, recordings. Must not know who writes.

A secret is the value of an environment variable whose name says so. Values are looked up at each use and kept nowhere.
"""

import os
import re

_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 8
"""Shorter values are words (`TOKENIZERS_PARALLELISM=false`) and would tear holes into ordinary text."""

_LOOKS_LIKE_KEY = re.compile(r"\b(?:sk|pk|rk|gsk|hf|xai)[-_][\w*.\-]{6,}|\bBearer\s+[\w*.\-]{6,}")


def redact(text: str) -> str:
    """Return `text` with `***` for every value that the environment calls a secret, and for what looks like a key.

    Servers echo keys, whole or half masked, in their error messages.
    """
    text = redact_exact(text)
    return _LOOKS_LIKE_KEY.sub("***", text)


def redact_exact(text: str) -> str:
    """Return `text` with `***` for the environment's secrets alone: fit for texts that must stay as they are."""
    secrets = {value for name, value in os.environ.items() if len(value) >= _SHORTEST and _NAMES.search(name)}
    for secret in sorted(secrets, key=len, reverse=True):  # a secret may hold another one
        text = text.replace(secret, "***")
    return text


__all__ = ["redact", "redact_exact"]
