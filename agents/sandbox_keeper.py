"""The keeper of a program in the sandbox: comes to a bare interpreter with the job, and imports nothing of Plait."""

from __future__ import annotations

import _signal as signal
import os
import resource
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

TICK = 0.05
"""Seconds between two looks at processes, memory and files."""
CLOSED = 3
"""Times that a folder which a program closed is opened before the run is stopped."""


def keep(tell: Callable[..., None], job: dict[str, Any], child: int, first: dict[str, int]) -> NoReturn:
    """Watch the program until it ends or breaks a limit; say which, and end everything.

    Args:
        tell: Reports an event.
        job: The job, with `top`, the program's folder, open.
        child: The program's process.
        first: Files that each folder in memory had before the program started.
    """
    end = time.monotonic() + job["seconds"]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        code, took = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        reason = broken(job, first)
        spent = code == -signal.SIGXCPU or (code < 0 and took > job["limits"]["RLIMIT_CPU"] - TICK)
        late = time.monotonic() >= end if not ended else spent
        if reason or late:
            tell(stopped=reason or "Timeout")
        if ended:
            tell(ended=code)
        if reason or late or ended:
            break
        signal.sigtimedwait({signal.SIGCHLD}, min(TICK, max(0.001, end - time.monotonic())))
    if os.getpid() != 1:  # else the namespace ends with its first process, and all that is in it
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def broken(job: dict[str, Any], first: dict[str, int]) -> str:
    """Return the limit that the run as a whole has broken, or "".

    Args:
        job: The job.
        first: Files that each folder in memory had before the program started.
    """
    memory, left = 0, job["files"]
    for place in job["own_memory"]:
        size, files = held(place)
        memory += size
        left -= files - first[place]
    if job["watched"]:
        numbers = [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]
        if len(numbers) > job["processes"]:
            return "Processes"
        memory += sum(map(resident, numbers))
    if memory > job["memory"]:
        return "Memory"
    return "" if left >= 0 and fewer(job["top"], left) else "Files"


def held(place: str) -> tuple[int, int]:
    """Return the bytes and the number of files in a file system that lies in memory."""
    space = os.statvfs(place)
    return space.f_frsize * (space.f_blocks - space.f_bfree), space.f_files - space.f_ffree


def fewer(top: int, left: int) -> bool:
    """Return whether an open folder holds at most `left` files and folders, however deep; False if it keeps closed.

    It goes through open folders, not paths: a program may rename its folder, and paths grow longer than they may be.
    """
    mode = os.fstat(top).st_mode & 0o7777
    if mode & 0o700 != 0o700:
        os.fchmod(top, mode | 0o700)
    todo = [(os.dup(top), mode)]
    try:
        while todo:
            folder, mode = todo.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        left -= 1
                        if left < 0:
                            return False
                        if entry.is_dir(follow_symlinks=False):
                            try:
                                todo.append(opened(entry.name, folder))
                            except (FileNotFoundError, NotADirectoryError):  # replaced while it was looked at
                                continue
            finally:
                if mode & 0o700 != 0o700:
                    os.fchmod(folder, mode)
                os.close(folder)
    except OSError:  # closed to us again and again, or more open folders than descriptors
        return False
    finally:
        for folder, _ in todo:
            os.close(folder)
    return True


def opened(name: str, parent: int) -> tuple[int, int]:
    """Open a folder to list it, and return with it the mode that it is to get back.

    A folder that the program closed to its owner is open until it has been listed.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(CLOSED):
        try:
            return os.open(name, flags, dir_fd=parent), 0o700
        except PermissionError:
            held = os.open(name, flags | os.O_PATH, dir_fd=parent)
            try:
                path, mode = f"/proc/self/fd/{held}", os.fstat(held).st_mode & 0o7777
                os.chmod(path, mode | 0o700)
                return os.open(name, flags, dir_fd=parent), mode
            except PermissionError:
                continue
            finally:
                os.close(held)
    raise PermissionError(name)


def resident(number: str) -> int:
    """Return the bytes that a process holds in memory; 0 once it has ended."""
    try:
        with open(f"/proc/{number}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0
