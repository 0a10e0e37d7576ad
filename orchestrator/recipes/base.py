"""What the run of every method shares: subscribers, stopping, the run folder, events, the cluster. Knows no method."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from pydantic import BaseModel

from ...records import JSON, canonical
from ..budget import Budget
from ..cluster import check_address, cluster
from ..counts import Counts
from ..events import Event, EventLog, Events
from ..ledger import Ledger
from ..runfolder import RunFolder, write_json, write_text
from ..spec import as_json, validated


class Stoppable(Protocol):
    """A study or a graph run."""

    def request_stop(self, reason: str) -> None:
        """End soon with what is there."""
        ...


class MethodRun:
    """One run of a method: made from a spec, started or continued with `run(out)`.

    A method's class sets `method` and `spec_type`, takes its spec apart in `__init__`, and does its work inside
    `_opened`.
    """

    method: ClassVar[str]
    spec_type: ClassVar[type[Any]]
    rows_kept: ClassVar[bool] = True
    """Whether the run folder holds its own copy of the data rows, which a resumed run reads; false where data are
    arrays, known by their digest."""
    spec: Any

    def __init__(self) -> None:
        self._events, self._stop, self._ended = Events(), "", False
        self._current: Stoppable | None = None
        self._subscribers: list[Callable[[Event], None]] = []

    @classmethod
    def from_spec(cls, values: dict[str, JSON]) -> Self:
        """Return the run of a spec file's mapping."""
        return cls(**as_json(validated(cls.spec_type, values, cls.method)))

    @classmethod
    def resume(cls, folder: str | Path, run: dict[str, JSON] | None = None) -> Self:
        """Return the run of an existing folder, ready to be run again with `out=folder`.

        Args:
            folder: Of the run; its own copy of the data is read, labels included.
            run: Changes to how it is carried out (actors, budgets).
        """
        run_folder = RunFolder.open(Path(folder))
        values = run_folder.spec()
        del values["resolved"]
        values["run"] = {**values["run"], **(run or {})}
        here = {"data": str(run_folder.path / "data.jsonl"), "labels": None}
        own = {name: value for name, value in here.items() if cls.rows_kept and name in cls.spec_type.model_fields}
        made = cls.from_spec({**values, **own})
        made.spec = validated(cls.spec_type, values, cls.method)
        return made

    def subscribe(self, subscriber: Callable[[Event], None]) -> Self:
        """Hand every event of the run to `subscriber`; returns self."""
        self._subscribers.append(subscriber)
        return self

    def request_stop(self, reason: str) -> None:
        """Let the run end soon with a valid partial result; safe from signal handlers."""
        self._forget()
        self._stop = self._stop or reason
        if self._current is not None:
            self._current.request_stop(reason)

    def _forget(self) -> None:
        """Forget what ended the run before this one: it is no reason to end another."""
        if self._ended:
            self._stop, self._current, self._ended = "", None, False

    @contextmanager
    def _opened(
        self, out: str | Path | None, address: str | None, *, resolved: JSON, rows: Iterable[BaseModel] = (), cpus: int
    ) -> Iterator[RunFolder]:
        """Hold the run folder as its one driver, with events and, where `cpus` is above 0, a cluster.

        Raises:
            PlaitError: the folder holds another run, the address does not answer, the disk is full.
        """
        self._forget()
        if cpus:
            check_address(address)
        folder = RunFolder.create(Path(out or f"runs/{self.method}-{datetime.now():%Y%m%d-%H%M%S}"), self.method)
        with ExitStack() as stack:
            stack.enter_context(folder.driving())
            folder.settle_spec({**as_json(self.spec), "resolved": resolved})
            if self.rows_kept:
                write_text(folder.path / "data.jsonl", "".join(f"{row.model_dump_json()}\n" for row in rows))
            log = EventLog(folder.path / "events.jsonl")
            stack.callback(log.close)
            self._events = Events(log.last)
            subscribers: list[Callable[[Event], None]] = [log, *self._subscribers]
            for subscriber in subscribers:
                self._events.subscribe(subscriber)
            where = stack.enter_context(cluster(address, cpus=cpus)) if cpus else "none"
            fields: dict[str, JSON] = {"id": folder.id, "state": "RUNNING", "cluster": where}
            self._events("run", {**fields, "folder": str(folder.path)})
            try:
                yield folder
            finally:
                self._ended = True

    def _write(
        self, folder: RunFolder, result: dict[str, JSON], timing: dict[str, JSON], render: Callable[..., str]
    ) -> None:
        """Write result, timing and report, and say that the run is done."""
        write_json(folder.path / "result.json", result)
        write_json(folder.path / "timing.json", timing)
        write_text(folder.path / "report.html", render(result, timing))
        fields = {"status": self.status, "stop_reason": self._stop, "folder": str(folder.path)}
        self._events("done", fields)

    @property
    def status(self) -> str:
        """`STOPPED` once something asked the run to stop, else `SUCCEEDED`."""
        return "STOPPED" if self._stop else "SUCCEEDED"

    def _result(self, schema: int, resolved: JSON, **parts: JSON) -> dict[str, JSON]:
        """Return result.json: what was asked, what became of it, the method's own parts."""
        asked = {name: value for name, value in as_json(self.spec).items() if name != "run"}
        return {
            "schema": schema, "method": self.method, "status": self.status, "stop_reason": self._stop,
            "spec": asked, "resolved": resolved, **parts,
        }  # fmt: skip

    def _timing(self, budget: Budget, counts: Counts, cost: Mapping[str, float], **more: JSON) -> dict[str, JSON]:
        """Return timing.json: what may differ from start to start and from machine to machine."""
        return {
            "seconds": round(budget.seconds, 3), "host": platform.node(), "versions": versions(),
            "counts": asdict(counts), "spent": budget.spent, "cost": dict(cost), **more,
        }  # fmt: skip

    def _pulling(self, stage: str, done: int, total: int) -> None:
        for subscriber in self._subscribers:
            subscriber(Event(0, "", "pull", {"stage": stage, "done": done, "total": total}))


def opened_ledger(given: str | None, folder: RunFolder) -> Ledger:
    """Return the run's ledger: the one its spec names, else its own."""
    return Ledger(given or folder.path / "ledger.db")


def rows_digest(rows: Sequence[BaseModel]) -> str:
    """Return the SHA-256 of data rows by content."""
    return sha256("\n".join(canonical(row.model_dump()) for row in rows).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions that a figure may depend on."""
    from importlib.metadata import version

    packages = ("plait", "torch", "transformers", "ray", "openai")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
