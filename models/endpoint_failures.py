"""Turns what an endpoint did wrong into a `CallFailed` with its type. Pure: no connection is touched.

401, 403                                      Unauthorized   never repeated: no storm with a wrong key
402, 429 insufficient_quota                   BudgetReached  the account is empty: waiting does not fill it
429                                           RateLimited    with the seconds that the server asks for
413, 400 that speaks of the context's length  TooLong
400 of a limit that thinking used up          Truncated
400 of a content filter                       Refused
400 that speaks of log-probabilities          Unsupported
408                                           Timeout
409, 425, 5xx, a broken connection            ServerError    with the server's seconds, if it gives any
every other 3xx and 4xx                       BadRequest
"""

import math
import re
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from .chat import CallFailed, Reason
from .completions import error_message
from .redaction import redact

_TOO_LONG = re.compile(
    r"context[_ ](?:length|window|size)|max_model_len|too (?:long|many tokens)|reduce the length|"
    r"exceeds? (?:the )?(?:model'?s? )?(?:maximum|available|context)|string_above_max_length",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content[_ ](?:filter|policy|management)|moderation|safety system", re.IGNORECASE)
_NO_LOGPROBS = re.compile(r"log_?prob", re.IGNORECASE)
_OUTPUT_LIMIT = re.compile(r"(?:output|token) limit was reached", re.IGNORECASE)  # OpenAI, of a thought without end
_NO_QUOTA = re.compile(r"insufficient[_ ](?:quota|balance|funds|credits)|billing_hard_limit", re.IGNORECASE)

_REFUSED = re.compile(r"Errno 111|Connect(?:ion)? (?:call failed|refused)", re.IGNORECASE)
_BROKEN: dict[type[BaseException], str] = {
    ConnectionRefusedError: "connection refused: nothing listens there",
    socket.gaierror: "the host's name is not known",
    ssl.SSLCertVerificationError: "the server's certificate is not trusted",
    ConnectionResetError: "the connection was reset before a whole answer",
    BrokenPipeError: "the connection was closed before a whole answer",
}
_PROTOCOL = {
    r"bad status line|expected http/|bad http": "what answers there does not speak HTTP: is it an https:// address?",
    r"server disconnected|without sending": "the connection was closed before an answer",
    r"not enough data|payload is not completed|incomplete": "the connection was closed before a whole answer",
    r"decompress|content-encoding": "the answer's compression cannot be read",
}
"""What clients say of a broken answer, and what it means."""

_BY_STATUS: dict[int, Reason] = {
    401: "Unauthorized",
    402: "BudgetReached",
    403: "Unauthorized",
    408: "Timeout",
    409: "ServerError",
    413: "TooLong",
    425: "ServerError",
    429: "RateLimited",
}


def from_status(where: str, status: int, headers: Mapping[str, str], body: Any, key_from: str) -> CallFailed:
    """Return the failure that an HTTP status means.

    Args:
        where: The endpoint, for the message.
        status: The HTTP status, not 2xx.
        headers: Of the answer, names in lower case or without regard to case.
        body: Parsed JSON, or text.
        key_from: The environment variable that the key came from; empty: no key was sent.
    """
    # A filter's verdict and a full account are told by the code where there is one, else by the words.
    words = f"{_code(body)} {error_message(body)}"
    reason = _BY_STATUS.get(status, "ServerError" if status >= 500 else "BadRequest")
    if status == 429 and _NO_QUOTA.search(words):
        reason = "BudgetReached"
    elif reason == "BadRequest" and _TOO_LONG.search(words):
        reason = "TooLong"
    elif reason == "BadRequest" and _OUTPUT_LIMIT.search(words):
        reason = "Truncated"
    elif reason == "BadRequest" and _FILTERED.search(words):
        reason = "Refused"
    elif reason == "BadRequest" and _NO_LOGPROBS.search(words):
        reason = "Unsupported"
    if reason == "Unauthorized":  # without the server's words: they may quote the key
        key = f"the key in {key_from} was refused" if key_from else "it wants a key, and none is set"
        return CallFailed(reason, f"{where}: {key} (HTTP {status})")
    after = retry_after(headers) if reason in {"RateLimited", "ServerError"} else None
    said = f"{error_message(body)}{_parameter(body)}{_address_hint(status, headers, body)}"
    return CallFailed(reason, f"{where}: HTTP {status}: {said.strip()}", after)


def _address_hint(status: int, headers: Mapping[str, str], body: Any) -> str:
    """Return what a user may do where another address would answer; "" where it does not look so."""
    if 300 <= status < 400:
        parts = urlsplit(headers.get("location", ""))
        place = redact(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))[:200]
        return f"it has moved to {place}; name that address" if place else "it has moved, and does not say where"
    if status == 404 and "model" not in error_message(body).lower():
        return " (nothing there answers chat completions: most addresses end with /v1)"
    return ""


def from_body(where: str, body: Mapping[str, Any], headers: Mapping[str, str], key_from: str) -> CallFailed | None:
    """Return the failure that stands inside a 200, as gateways send it; None where there is none."""
    if not body.get("error") or body.get("choices"):
        return None
    error = body["error"]
    status = error.get("code") if isinstance(error, Mapping) else None
    if not isinstance(status, int) or not 300 <= status < 600:
        status = 500
    return from_status(where, status, headers, body, key_from)


def from_connection(where: str, error: BaseException) -> CallFailed:
    """Return the failure of a connection: `Timeout` if a clock ended it, else `ServerError`.

    The clients' own classes do not tell: aiohttp's refused connection arrives as a time-out.
    """
    chain = list(_causes(error))
    timed_out = any(isinstance(cause, TimeoutError) for cause in chain)
    return CallFailed("Timeout" if timed_out else "ServerError", f"{where}: {_plainly(chain)}")


def _plainly(chain: Sequence[BaseException]) -> str:
    """Return what broke a connection: the system's own error says it, whatever was raised before and after it."""
    words = " ".join(map(str, chain))
    for kind, text in _BROKEN.items():
        if any(isinstance(cause, kind) for cause in chain):
            return text
    if _REFUSED.search(words):  # several addresses of one host are told in one error without a class of its own
        return _BROKEN[ConnectionRefusedError]
    known = [cause for cause in chain if isinstance(cause, ssl.SSLError)]
    if known:  # aiohttp's has the class alone, and none of its fields
        reason = next((name for cause in known if (name := getattr(cause, "reason", None))), None)
        return f"TLS failed ({error_message(str(reason or known[-1]))}): is it an http:// address?"
    for pattern, text in _PROTOCOL.items():
        if re.search(pattern, words, re.IGNORECASE):
            return text
    if any(isinstance(cause, TimeoutError) for cause in chain):
        return "no connection in time"
    system = next((cause for cause in chain if isinstance(cause, OSError) and cause.strerror), None)
    if system is not None:
        return error_message(str(system.strerror))
    told = next((str(cause) for cause in reversed(chain) if str(cause) and not isinstance(cause, RuntimeError)), "")
    return error_message(told) if told else type(chain[-1]).__name__


def _parameter(body: Any) -> str:
    """Return the field that an error body names beside its words, in brackets."""
    error = body.get("error", body) if isinstance(body, Mapping) else None
    name = error.get("param") if isinstance(error, Mapping) else None
    known = isinstance(name, str) and re.fullmatch(r"[\w.\[\]]{1,60}", name)
    return f" (parameter {name})" if known and str(name) not in error_message(body) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `retry-after-ms` or `retry-after` (seconds, or an HTTP date) ask for; None for none."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    until = _date(headers.get("retry-after", ""))
    if until is None:
        return None
    now = _date(headers.get("date", ""))  # the server's clock, where it tells: ours may be off
    return max(0.0, until - (time.time() if now is None else now))


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


def _code(body: Any) -> str:
    error = body.get("error", body) if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return ""
    inner = error.get("innererror")
    return f"{error.get('code')} {error.get('type')} {inner.get('code') if isinstance(inner, Mapping) else ''}"


def _causes(error: BaseException) -> Any:
    """Yield `error` and what caused it, down to the first cause."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


__all__ = ["from_body", "from_connection", "from_status", "retry_after"]
