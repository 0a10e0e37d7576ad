"""What a host offers to keep programs in: the ways to start an interpreter, the strictest that works first.

    bubblewrap    namespaces, and a file system of programs' own: the system and Python to read, their folder, no more
    namespaces    user, network, pid and ipc namespaces by `unshare`: programs read what their user reads
    none          limits alone, where the caller allows the network

Each way is tried by starting the interpreter in it once.
"""

import encodings
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..errors import SpecError
from .sandbox_child import PROBE
from .sandbox_filter import system_call_filter
from .sandbox_folder import NOBODY, program_folder

Level = Literal["bubblewrap", "namespaces", "none"]
CHILD = Path(__file__).with_name("sandbox_child.py").read_text(encoding="utf-8")
_KEEPER = Path(__file__).with_name("sandbox_keeper.py")
KEEPER = compile(_KEEPER.read_text(encoding="utf-8"), _KEEPER.name, "exec")
INTERPRETER = (sys.executable, "-s", "-P", "-S", "-B", "-X", "utf8")
"""`-I` would be `-E -s -P`; without `-E` the hash seed can be fixed, so that sets print alike each time. `-S` leaves
out start-up files of site-packages; the packages themselves can be imported."""
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""All that a program finds in its environment."""
NO_RIGHTS = ("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
NO_ROOT = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *NO_RIGHTS)
NAMESPACES = ("--user", "--map-current-user", "--net", "--ipc", "--pid", "--fork", "--kill-child=KILL")
SHUT = (
    "sh", "-c", 'if [ "$1" -gt 0 ]; then echo "$1" >/proc/sys/kernel/pid_max || exit; fi\n'
    'mount -o bind,ro /proc/sys /proc/sys && shift && exec "$@"', "sh",
)  # fmt: skip
"""Closes the kernel's settings, which root could write; where the kernel keeps the highest process number for each
namespace it is lowered first, as no other limit of processes holds for root."""
SYSTEM = (
    *(f"/usr/{name}" for name in ("bin", "sbin", "lib", "lib32", "lib64", "libexec", "include", "share")),
    "/usr/local/bin", "/usr/local/lib", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store",
)  # fmt: skip
"""The system, to read; not all of /usr, where images keep their own work too (/usr/src)."""
SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
"""What programs see of the system's settings: nothing that names users or holds secrets."""
OWN_MEMORY = ("/tmp", "/dev/shm")
"""Folders of a view that lie in memory; what they hold counts as the program's."""
FOLDER, ABOVE, MEMORY = "{folder}", "{above}", "{memory}"
"""Stand in a command for the program's folder, the making of those above it, and the bytes of each of `OWN_MEMORY`."""
FEWEST = 301
"""The smallest bound of process numbers that a kernel takes."""
OPEN_TO: dict[Level, str] = {
    "bubblewrap": "",
    "namespaces": "programs read what their user reads, a run's answers among it, and write where that user writes; "
    "sockets that lie in files are open to them",
    "none": "programs reach the network and other processes, read what their user reads, a run's answers among it, "
    "and write where that user writes",
}
NOT_OPEN = "programs see the system and Python, to read, and their own folder; no network, no other process"


@dataclass(frozen=True, slots=True)
class Offered:
    """What a host offers.

    Attributes:
        namespaces: Whether programs get user, network and pid namespaces.
        proc: Whether they see no process but their own, and those can be counted.
        root: Whether programs are root, who may write everywhere and has no limit of processes.
        nobody: Whether root starts them as a user without rights.
        command: What starts the interpreter; `FOLDER`, `ABOVE` and `MEMORY` stand in it.
        problem: What was answered where namespaces are missing.
        view: Whether programs see a file system of their own.
        no_view: What was answered where that is missing.
        filtered: Whether the filter of system calls holds.
    """

    namespaces: bool
    proc: bool
    root: bool
    nobody: bool
    command: tuple[str, ...]
    problem: str = ""
    view: bool = False
    no_view: str = ""
    filtered: bool = False

    @property
    def level(self) -> Level:
        """What keeps programs in."""
        return "bubblewrap" if self.view else "namespaces" if self.namespaces else "none"

    def started(self, folder: str, memory: int) -> list[str]:
        """Return the command for a program's folder and the bytes that its private folders hold at most."""
        stands = {FOLDER: [folder], ABOVE: _made([folder]), MEMORY: [str(memory)]}
        return [word for part in self.command for word in stands.get(part, [part])]


@cache
def host() -> Offered:
    """Return the strictest way that works here.

    Raises:
        SpecError: the interpreter starts in none.
    """
    answered: dict[Level, str] = {}
    if not shutil.which("bwrap"):
        answered["bubblewrap"] = "no bwrap command (bubblewrap)"
    if not shutil.which("unshare"):
        answered["namespaces"] = "no unshare command (util-linux)"
    for way in _ways():
        found, error = _tried(way)
        if found is not None:
            return replace(
                found,
                problem="" if found.namespaces else answered.get("namespaces", ""),
                no_view="" if found.view else answered.get("bubblewrap", ""),
            )
        answered.setdefault(way.level, error)
    raise SpecError("sandbox", next(iter(answered.values()), ""), "an interpreter that starts")


def at_level(level: Level) -> Offered | None:
    """Return the strictest way of a level that works here, or None: for tests, which look at each level."""
    tried = (_tried(way)[0] for way in _ways() if way.level == level)
    return next(filter(None, tried), None)


def offered() -> dict[str, Any]:
    """Return what this host offers, by name: the fields of `Offered`, and `level`."""
    return {**asdict(host()), "level": host().level}


def _ways() -> Iterator[Offered]:
    """Yield the ways to start a program, the strictest first."""
    bubble, unshare, setpriv = shutil.which("bwrap"), shutil.which("unshare"), shutil.which("setpriv")
    root = os.geteuid() == 0
    drop = (setpriv, *NO_ROOT) if root and setpriv else ()
    if bubble and drop:
        dropped = (bubble, *_view(), *drop, "--pdeathsig=keep")
        if unshare:  # limits of processes are counted for each user namespace
            yield Offered(True, True, False, True, (*dropped, unshare, "--user", "--map-current-user"), view=True)
        yield Offered(True, True, False, True, dropped, view=True)
    if bubble:
        own = (bubble, "--unshare-user", "--cap-drop", "ALL", *_view())
        yield Offered(True, True, root, False, own, view=True)
    if unshare:
        spaces = (unshare, *NAMESPACES)
        if drop:
            yield Offered(True, True, False, True, (*drop, *spaces, "--mount-proc"))
        if root:
            shut = (*spaces, "--mount-proc", *SHUT, str(FEWEST if _own_numbers() else 0))
            if setpriv:
                yield Offered(True, True, True, False, (*shut, setpriv, *NO_RIGHTS))
            yield Offered(True, True, True, False, shut)
        else:
            yield Offered(True, True, False, False, (*spaces, "--mount-proc"))
        if drop:
            yield Offered(True, False, False, True, (*drop, *spaces))
        yield Offered(True, False, root, False, spaces)
    if drop:
        yield Offered(False, False, False, True, drop)
    yield Offered(False, False, root, False, ())


def _own_numbers() -> bool:
    """Whether a pid namespace has a highest process number of its own; before Linux 6.14 it was the machine's."""
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2]) >= (6, 14)


def _tried(way: Offered) -> tuple[Offered | None, str]:
    """Start the interpreter as `way` says; return it with what was learnt, or None and what was answered."""
    try:
        with program_folder({}, way.nobody) as folder:
            tried = subprocess.run(
                [*way.started(folder, 1 << 20), *INTERPRETER, "-c", CHILD, PROBE], cwd=folder, capture_output=True,
                env=ENVIRONMENT, input=system_call_filter(), timeout=60, check=False,
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as refusal:  # root that may not give files away, a command that hangs
        return None, str(refusal)
    answer, error = (text.decode(errors="replace").splitlines() for text in (tried.stdout, tried.stderr))
    if tried.returncode or len(answer) != 3:
        said = [line for line in error if line.strip()]
        return None, said[-1].strip() if said else f"code {tried.returncode}"
    first, library, filtered = answer
    if way.namespaces and first != "True":
        return None, "no process numbers of its own"
    if library != encodings.__file__:  # another Python's, where the user may not read this one's
        return None, f"{library} in place of {encodings.__file__}"
    return replace(way, filtered=filtered == "filtered"), ""


def _view() -> tuple[str, ...]:
    """Return bubblewrap's arguments: the system and Python to read, the program's folder, memory for other files.

    Homes, run folders, sockets and other programs' folders are not there. Neither is the package itself, whose
    examples have answers.
    """
    shown: dict[str, str] = {place: place for place in (*SYSTEM, *SETTINGS) if Path(place).exists()}
    for place in sorted(_python(), key=len):
        if not any(Path(place).is_relative_to(known) for known in shown):
            shown[place] = str(Path(place).resolve())

    def own_memory(place: str) -> tuple[str, ...]:
        return "--perms", "1777", "--size", MEMORY, "--tmpfs", place

    package = Path(__file__).resolve().parents[1]
    hidden = [str(package)] if any(package.is_relative_to(place) for place in shown.values()) else []
    return (
        "--unshare-net", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try",
        "--die-with-parent", "--as-pid-1",
        *own_memory("/tmp"), *_made(shown),  # Python itself may lie in /tmp
        *(word for place, source in shown.items() for word in ("--ro-bind", source, place)),
        *(word for place in hidden for word in ("--tmpfs", place, "--remount-ro", place)),
        "--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev",
        *own_memory("/dev/shm"), ABOVE, "--bind", FOLDER, FOLDER, "--chdir", FOLDER,
        "--remount-ro", "/dev", "--remount-ro", "/",
    )  # fmt: skip


def _python() -> list[str]:
    """Return what an interpreter needs to be seen: its files and its packages, each by every name that leads to it."""
    paths = sysconfig.get_paths()
    needed = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    for prefix in dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)):
        needed += [f"{prefix}/{name}" for name in ("bin", "lib", sys.platlibdir, "pyvenv.cfg")]
    link = Path(sys.executable)
    while link.is_symlink():
        needed.append(str(link))
        link = link.parent / link.readlink()
    needed.append(str(link))
    needed += [str(Path(place).resolve()) for place in needed]
    return [place for place in dict.fromkeys(map(os.path.normpath, needed)) if Path(place).exists()]


def _made(places: Collection[str]) -> list[str]:
    """Return the arguments that make the folders above `places`, outer ones first, open to all.

    Bubblewrap would make them too, but closed to other users.
    """
    above = {str(parent) for place in places for parent in Path(place).parents}
    made = sorted(parent for parent in above if parent != "/" and parent not in places)
    return [word for place in made for word in ("--perms", "0755", "--dir", place)]
