"""The Ray cluster that a run uses: an existing one by address, else one of its own. Knows no models or methods."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ClusterError, SpecError


@contextmanager
def cluster(address: str | None, cpus: int) -> Iterator[str]:
    """Connect to Ray for the length of a run; yields the address.

    An address (or RAY_ADDRESS) is joined and left as it was found. Without one, a local cluster is started and
    stopped again, unless this process is connected already, as a notebook may be.

    Args:
        address: `host:port`, `ray://...` or `auto`; None for RAY_ADDRESS or a local cluster.
        cpus: Cores of a local cluster.

    Raises:
        ClusterError: nothing answers at the address.
    """
    import ray

    # Under `uv run`, Ray would start every worker through uv, many times slower (ray#54344, ray#50961).
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if ray.is_initialized():
        yield ray.get_runtime_context().gcs_address
        return
    address = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "plait"}
    try:
        with _own_sigterm():
            if address:
                ray.init(address=address, **quiet)
            else:
                ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ClusterError(address or "local Ray", f"cannot connect ({first}); is the cluster up?") from error
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the process's SIGTERM handler: ray.init puts its own in place, which ends the process at once."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGTERM, before)


def check_address(address: str | None) -> None:
    """Refuse an address where nothing listens: Ray would end the whole process over it, after half a minute.

    Raises:
        SpecError: the address given, or RAY_ADDRESS, is no host:port that accepts a connection.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if not address or address in {"auto", "local"}:
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise SpecError("address", address, f"host:port of a running Ray cluster ({problem})") from error
