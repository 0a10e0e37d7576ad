"""The errors of Plait, one tree; imports no folder.

    PlaitError
    ├── SpecError              a value in a spec, file or flag cannot run           exit 2
    │   └── DataError          a row of a data file cannot be used                  exit 2
    ├── SourceError            a model cannot be found, fetched or trusted          exit 2
    │   └── OfflineError       the model is not here and the network cannot help    exit 4
    ├── RunFolderError         a run folder cannot be read or continued             exit 2
    ├── ClusterError           Ray cannot be reached, or cannot place what is asked exit 4
    ├── StoreError             ledger or run folder cannot be written (disk full, read-only) exit 4
    ├── NotFinite              a model computed NaN or infinities                   exit 1
    ├── WorkerLost             a worker died or is restarting; the work may be repeated
    └── SearchStuck            a search is not done, asks nothing and waits for nothing

Every argument goes to `super().__init__`: Ray pickles errors, and pickle rebuilds them from `args`.
A failed evaluation is not an error: it is an `Outcome` (`records.Failed`).
"""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `X?` for the known name nearest to `word`, or all of them where none is near."""
    names = list(dict.fromkeys(known))
    close = get_close_matches(word, names, n=1, cutoff=0.5)
    return f"{close[0]}?" if close else f"one of {', '.join(names)}" if names else "none: there is nothing to name"


def all_known(names: Iterable[str], known: Iterable[str], what: str) -> tuple[str, ...]:
    """Return names, each once.

    Raises:
        ValueError: one is not known; the nearest is named.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise ValueError(f"known {what}: {nearest(name, known)}")
    return tuple(dict.fromkeys(names))


class PlaitError(Exception):
    """Base of every error that a user of Plait may meet; `exit_code` is the command line's."""

    exit_code = 2


class SpecError(PlaitError):
    """A value cannot run: `where` it is, what it `got`, what was `expected`."""

    def __init__(self, where: str, got: object, expected: str) -> None:
        super().__init__(where, got, expected)  # all of them: pickle rebuilds the error from args
        self.where, self.got, self.expected = where, got, expected

    def __str__(self) -> str:
        return f"{self.where}: got {self.got!r}, expected {self.expected}"


class DataError(SpecError):
    """A row of a data file cannot be used; `where` is `file:line`."""


class SourceError(PlaitError):
    """A model source cannot be found, read or trusted: `source`, and `problem` with what to do."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(source, problem)
        self.source, self.problem = source, problem

    def __str__(self) -> str:
        return f"{self.source}: {self.problem}"


class OfflineError(SourceError):
    """The model is not in the cache and cannot be fetched from here."""

    exit_code = 4


class RunFolderError(PlaitError):
    """A run folder cannot be read or continued: `folder`, and `problem` with what to do."""

    def __init__(self, folder: str, problem: str) -> None:
        super().__init__(folder, problem)
        self.folder, self.problem = folder, problem

    def __str__(self) -> str:
        return f"{self.folder}: {self.problem}"


class ClusterError(PlaitError):
    """A Ray cluster cannot be reached, or cannot place what is asked of it."""

    exit_code = 4

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(address, problem)
        self.address, self.problem = address, problem

    def __str__(self) -> str:
        return f"{self.address}: {self.problem}"


class StoreError(PlaitError):
    """The ledger or file at `url` cannot be read or written (disk full, read-only, locked away)."""

    exit_code = 4

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(url, problem)
        self.url, self.problem = url, problem

    def __str__(self) -> str:
        return f"{self.url}: {self.problem}"


class NotFinite(PlaitError):
    """A model computed NaN or infinities: `what` they are. A weight is broken, or the numbers' type overflows."""

    exit_code = 1

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what}: NaN or infinite, expected finite numbers (a broken weight, or too small a number type)"


class WorkerLost(PlaitError):
    """A worker died, or is restarting, with work in hand; nothing is known of that work."""

    exit_code = 1

    def __init__(self, worker: str, problem: str) -> None:
        super().__init__(worker, problem)
        self.worker, self.problem = worker, problem

    def __str__(self) -> str:
        return f"worker {self.worker}: {self.problem}"


class SearchStuck(PlaitError):
    """A search is not done, asks nothing, and waits for no outcome: a defect of the search."""

    exit_code = 1

    def __init__(self, search: str, asked: int, told: int) -> None:
        super().__init__(search, asked, told)
        self.search, self.asked, self.told = search, asked, told

    def __str__(self) -> str:
        return f"search {self.search}: asks nothing with {self.told} of {self.asked} told, and is not done"
