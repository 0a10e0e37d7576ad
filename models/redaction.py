"""Keeps secrets out of what is written: errors, logs, recordings. Must not know who writes.

A secret is the value of an environment variable whose name says so, or that a model reads its key from. Values are
looked up at each use and kept nowhere.
"""

import os
import re

_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_watched: set[str] = set()

_LOOKS_LIKE_KEY = re.compile(r"\b(?:sk|pk|rk|gsk|hf|xai)[-_][\w*.\-]{6,}|\bBearer\s+[\w*.\-]{6,}")


def watch(variable: str) -> None:
    """Treat the environment variable of this name as a secret, whatever its name says."""
    _watched.add(variable)


def redact(text: str) -> str:
    """Return `text` with `***` for every secret and for what looks like a key.

    Servers echo keys, whole or half masked, in their error messages.
    """
    return _LOOKS_LIKE_KEY.sub("***", redact_exact(text))


def redact_exact(text: str) -> str:
    """Return `text` with `***` for secrets alone: fit for texts that must stay as they are."""
    secrets = {value.strip() for name, value in os.environ.items() if _is_secret(name, value)}
    for secret in sorted(secrets, key=len, reverse=True):  # a secret may hold another one
        text = text.replace(secret, "***")
    return text


def _is_secret(name: str, value: str) -> bool:
    """Whether a value is one: words like `false` or `disabled` are none, and would tear holes into any text."""
    if name in _watched:
        return len(value.strip()) >= 4
    return _NAMES.search(name) is not None and len(value) >= 8 and (len(value) >= 20 or any(map(str.isdigit, value)))


__all__ = ["redact", "redact_exact", "watch"]
