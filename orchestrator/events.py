"""One stream of events that terminal, log file, service and metrics all read. Nothing else prints."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..records import JSON, canonical
from .runfolder import storing


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        number: Counted on from 1 over all starts of a run.
        time: UTC, ISO 8601.
        kind: `run`, `phase`, `progress`, `incumbent`, `failure`, `worker`, `spend`, `done`.
        fields: JSON fields, by kind.
    """

    number: int
    time: str
    kind: str
    fields: Mapping[str, JSON]

    def line(self) -> str:
        """Return the event as one line of JSON."""
        return canonical({"n": self.number, "t": self.time, "kind": self.kind, **self.fields})


class Events:
    """Numbers events and hands each to every subscriber, in order."""

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self._subscribers: list[Callable[[Event], None]] = []

    def subscribe(self, subscriber: Callable[[Event], None]) -> None:
        """Hand every later event to `subscriber`."""
        self._subscribers.append(subscriber)

    def __call__(self, kind: str, fields: Mapping[str, JSON]) -> None:
        """Emit an event; an `EventSink`."""
        self._number += 1
        event = Event(self._number, datetime.now(UTC).isoformat(timespec="milliseconds"), kind, fields)
        for subscriber in self._subscribers:
            subscriber(event)


class EventLog:
    """Appends events to a file of JSON lines; continues one that was cut off in mid-line.

    Raises:
        StoreError: here, and at every event: the disk is full, read-only or failing.
    """

    def __init__(self, path: Path) -> None:
        self.last, self._path = 0, path
        with storing(path):
            if path.exists():
                whole = path.read_bytes()
                whole = whole[: whole.rfind(b"\n") + 1]
                os.truncate(path, len(whole))
                lines = whole.splitlines()
                self.last = int(json.loads(lines[-1])["n"]) if lines else 0
            # Unbuffered: a buffer that could not be written would be tried again, and fail again, on closing.
            self._file = path.open("ab", buffering=0)

    def __call__(self, event: Event) -> None:
        """Append one event and hand it to the operating system."""
        line = memoryview(f"{event.line()}\n".encode())
        with storing(self._path):
            while line:  # on a disk that fills up, a part may fit; the next start drops a torn last line
                line = line[self._file.write(line) :]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> list[dict[str, JSON]]:
    """Return the whole events of a log, a torn last line left out."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
