"""The ledger: every outcome that was ever paid for, by the hash of all it depends on. Append-only.

SQLite in WAL mode by default, PostgreSQL by URL, through the same SQLAlchemy Core code. What `record` returned
from is durable. Claims keep two runs on one ledger from computing the same thing: a claim is a lease that its
owner renews, and anybody takes over once it has run out. Must not know studies, budgets or workers.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import StoreError
from ..records import JSON, Failed, Scored, canonical
from .ledger_schema import claims, failures, metadata, migrate, outcomes
from .mounts import network_file_system

CHUNK = 500
"""Keys in one statement; SQLite allows 32,766 parameters, and long statements gain nothing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An outcome to be recorded.

    Attributes:
        key: Of the request.
        evaluator: Name of the evaluator.
        outcome: What it gave.
        run: Which run paid.
        final: Whether the request is done with; a failure that will be repeated keeps its claim.
    """

    key: str
    evaluator: str
    outcome: Scored | Failed
    run: str = ""
    final: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """An outcome in the ledger, and the run that paid for it."""

    outcome: Scored
    run: str


class Ledger:
    """Outcomes by key. One object serves one thread at a time.

    Args:
        url: `sqlite:///path`, a path, or `postgresql+psycopg://user:password@host/database`.
        read_only: Refuse to write; for viewers beside a run.

    Raises:
        StoreError: it cannot be opened, is of a newer version, or is SQLite on a network file system.
    """

    def __init__(self, url: str | Path, *, read_only: bool = False) -> None:
        text = str(url)
        self._url = text if "://" in text else f"sqlite:///{Path(text).absolute()}"
        self.name = re.sub(r"://[^@/]*@", "://", self._url)
        self._read_only = read_only
        if self._url.startswith("sqlite"):
            self._engine = _sqlite_engine(self._url, self.name, read_only)
            self._claimer = _sqlite_engine(self._url, self.name, read_only, durable=False)
            self._insert: Any = sqlite.insert
        else:
            with self._errors():
                self._engine = self._claimer = sa.create_engine(self._url, pool_pre_ping=True)
            self._insert = postgresql.insert
        self._reader = self._engine.execution_options(reading=True)
        with self._errors():
            migrate(self._engine, self.name, read_only=read_only)

    @property
    def url(self) -> str:
        """Where it is, for others to open it too; may hold a password."""
        return self._url

    def look_up(self, keys: Sequence[str], owner: str, lease: float) -> tuple[dict[str, Found], set[str]]:
        """Return what is known of `keys`, and those of the others that `owner` may compute from now on.

        Claims need not outlive a power cut, so SQLite is not made to flush them to the disk.

        Args:
            keys: What is asked for.
            owner: Who claims.
            lease: Seconds that a claim lasts; 0 claims nothing.
        """
        found = self.find(keys)
        missing = [key for key in keys if key not in found]
        if not missing or not lease:
            return found, set()
        with self._writing(self._claimer) as connection:
            granted = self._claim(connection, missing, owner, lease)
            # Whoever held a claim before may have recorded between our look and our claim.
            late = self._find(connection, granted)
            if late:
                self._release(connection, owner, list(late))
        return {**found, **late}, granted - set(late)

    def find(self, keys: Iterable[str]) -> dict[str, Found]:
        """Return what is known of `keys`; failures are not."""
        with self._errors(), self._reader.connect() as connection:
            return self._find(connection, keys)

    def _find(self, connection: sa.Connection, keys: Iterable[str]) -> dict[str, Found]:
        found: dict[str, Found] = {}
        columns = (outcomes.c.key, outcomes.c["values"], outcomes.c.cost, outcomes.c.artifacts, outcomes.c.run)
        for chunk in _chunks(list(keys)):
            for key, values, cost, artifacts, run in connection.execute(
                sa.select(*columns).where(outcomes.c.key.in_(chunk))
            ):
                scored = Scored(json.loads(values), json.loads(cost), tuple(json.loads(artifacts)))
                found[key] = Found(scored, run)
        return found

    def record(self, entries: Sequence[Entry], owner: str = "") -> None:
        """Write outcomes and failures and give up `owner`'s claims on final ones, all or nothing, durable on return.

        The first to record a key wins; an equal key means an equal outcome, so nothing is lost.
        """
        now = time.time()
        scored = [_row(entry, now) for entry in entries if isinstance(entry.outcome, Scored)]
        failed = [
            {"key": entry.key, "evaluator": entry.evaluator, "reason": entry.outcome.reason,
             "detail": entry.outcome.detail, "cost": canonical(dict(entry.outcome.cost)), "run": entry.run,
             "created": now}
            for entry in entries
            if isinstance(entry.outcome, Failed)
        ]  # fmt: skip
        with self._writing() as connection:
            if scored:
                connection.execute(self._insert(outcomes).on_conflict_do_nothing(), scored)
            if failed:
                connection.execute(sa.insert(failures), failed)
            self._release(connection, owner, [entry.key for entry in entries if entry.final])

    def claim(self, keys: Sequence[str], owner: str, lease: float) -> set[str]:
        """Claim `keys` for `owner` for `lease` seconds; return those granted, expired claims of others included.

        Raises:
            StoreError: the ledger cannot be written.
        """
        with self._writing(self._claimer) as connection:
            return self._claim(connection, keys, owner, lease)

    def _claim(self, connection: sa.Connection, keys: Sequence[str], owner: str, lease: float) -> set[str]:
        now = time.time()
        granted: set[str] = set()
        for chunk in _chunks(keys):
            connection.execute(sa.delete(claims).where(claims.c.key.in_(chunk), claims.c.expires < now))
            rows = [{"key": key, "owner": owner, "expires": now + lease} for key in chunk]
            connection.execute(self._insert(claims).on_conflict_do_nothing(), rows)
            mine = sa.select(claims.c.key).where(claims.c.key.in_(chunk), claims.c.owner == owner)
            granted.update(connection.scalars(mine))
        return granted

    def renew(self, owner: str, lease: float) -> None:
        """Let all claims of `owner` last `lease` seconds from now."""
        with self._writing(self._claimer) as connection:
            connection.execute(sa.update(claims).where(claims.c.owner == owner).values(expires=time.time() + lease))

    def release(self, owner: str, keys: Sequence[str] | None = None) -> None:
        """Give up the claims of `owner` on `keys`, or all of them."""
        with self._writing(self._claimer) as connection:
            if keys is None:
                connection.execute(sa.delete(claims).where(claims.c.owner == owner))
                return
            self._release(connection, owner, keys)

    def _release(self, connection: sa.Connection, owner: str, keys: Sequence[str]) -> None:
        for chunk in _chunks(keys):
            connection.execute(sa.delete(claims).where(claims.c.key.in_(chunk), claims.c.owner == owner))

    def counts(self) -> dict[str, int]:
        """Return how many outcomes, failures and claims there are."""
        with self._errors(), self._reader.connect() as connection:
            return {
                table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in (outcomes, failures, claims)
            }

    def costs(self, run: str) -> list[dict[str, float]]:
        """Return the cost of every outcome that `run` paid for, so that a resumed run's budget counts them."""
        return self._costs(outcomes, run)

    def failed_costs(self, run: str) -> list[dict[str, float]]:
        """Return what every failed attempt of `run` took all the same."""
        return self._costs(failures, run)

    def _costs(self, table: sa.Table, run: str) -> list[dict[str, float]]:
        with self._errors(), self._reader.connect() as connection:
            mine = sa.or_(table.c.run == run, table.c.run.startswith(f"{run}/", autoescape=True))  # and its shards
            rows = connection.scalars(sa.select(table.c.cost).where(mine))
            return [json.loads(cost) for cost in rows]

    def failures(self) -> list[Failed]:
        """Return every failure that was recorded, in order."""
        with self._errors(), self._reader.connect() as connection:
            rows = connection.execute(sa.select(failures.c.reason, failures.c.detail).order_by(failures.c.id))
            return [Failed(reason, detail) for reason, detail in rows]

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()
        self._claimer.dispose()

    @contextmanager
    def _writing(self, engine: sa.Engine | None = None) -> Iterator[sa.Connection]:
        with self._errors(), (engine or self._engine).begin() as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the database's errors into one line of ours."""
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            first = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
            raise StoreError(self.name, _advice(first)) from error


def _advice(problem: str) -> str:
    hints = {
        "full": "free some space and resume",
        "readonly": "make it writable and resume",
        "locked": "another process holds it; try again",
        "unable to open": "does the folder exist, and may it be written?",
    }
    return next((f"{problem}: {hint}" for word, hint in hints.items() if word in problem), problem)


def _row(entry: Entry, now: float) -> dict[str, JSON]:
    assert isinstance(entry.outcome, Scored)
    return {
        "key": entry.key,
        "evaluator": entry.evaluator,
        "values": canonical(dict(entry.outcome.values)),
        "cost": canonical(dict(entry.outcome.cost)),
        "artifacts": canonical(list(entry.outcome.artifacts)),
        "run": entry.run,
        "created": now,
    }


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]


def _sqlite_engine(url: str, name: str, read_only: bool, *, durable: bool = True) -> sa.Engine:
    """Return an engine in WAL mode whose every commit reaches the disk, or not before the next that must."""
    path = Path(url.removeprefix("sqlite:///"))
    kind = network_file_system(path.parent)
    if kind:
        raise StoreError(name, f"SQLite is not safe on a network file system ({kind}); use postgresql+psycopg://...")
    if read_only:
        url = f"sqlite:///file:{path}?mode=ro&uri=true"
    engine = sa.create_engine(url, connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: object) -> None:
        connection.isolation_level = None  # BEGIN is ours: the driver's own comes too late for a write lock
        cursor = connection.cursor()
        if not read_only:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        reading = read_only or connection.get_execution_options().get("reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


__all__ = ["Entry", "Found", "Ledger", "metadata"]
