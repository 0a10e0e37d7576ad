"""The folder of one program: made, filled, and removed whatever the program did to it. Touches nothing else.

The folder stands within another that is Plait's alone, and everything here goes through open folders, not
paths: a program may rename its folder, put a link to `/tmp` in its place or close it to its owner.
"""

import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from ..errors import SpecError

NOBODY = 65534
"""Who programs are where root runs them, and the interpreter is in a place that others can read."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOG = logging.getLogger("plait.sandbox")


@contextlib.contextmanager
def program_folder(files: Mapping[str, bytes | Path], nobody: bool) -> Iterator[str]:
    """Make a fresh folder with copies of `files`; it is removed in the end, whatever was put there.

    What cannot be removed stays and is logged: cleaning up never fails a program's run.

    Raises:
        SpecError: a file's name leaves the folder.
    """
    for name in files:
        given = PurePosixPath(name)
        if given.is_absolute() or ".." in given.parts or not given.parts:
            raise SpecError("sandbox: file", name, "a name within the program's folder")
    outer = tempfile.mkdtemp(prefix="plait-sandbox-")
    held = os.open(outer, _FOLDER)
    try:
        inner = Path(outer, "program")
        inner.mkdir(0o700)
        for name, content in files.items():
            path = inner / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        if nobody:
            for path in (inner, *inner.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
            os.chmod(outer, 0o711)  # passed through by name, listed and changed by root alone
        yield str(inner)
    finally:
        _remove(outer, held)


def _remove(outer: str, held: int) -> None:
    """Empty the folder that `held` is open on, and remove it where it still has its name."""
    try:
        os.fchmod(held, 0o700)
        _emptied(held)
        parent = os.open(os.path.dirname(outer), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            name = os.path.basename(outer)
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if os.path.samestat(there, os.fstat(held)):
                os.rmdir(name, dir_fd=parent)
            else:
                _LOG.warning("a program moved its folder %s: an empty one stays where it went", outer)
        finally:
            os.close(parent)
    except OSError as error:
        _LOG.warning("the folder of a program could not be removed: %s (%s)", outer, error.strerror)
    finally:
        os.close(held)


def _emptied(top: int) -> None:
    """Remove all that a folder holds, links never followed.

    Folders within are moved to the top before they are emptied, so that no depth is too deep.
    """
    moved = 0
    while names := os.listdir(top):
        for name in names:
            if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=top)
                continue
            moved = _hoisted(top, name, moved)
            os.rmdir(name, dir_fd=top)


def _hoisted(top: int, name: str, moved: int) -> int:
    """Remove a folder's files and move its folders to the top; return how many have been moved in all."""
    folder = _opened(top, name)
    try:
        for inside in os.listdir(folder):
            if stat.S_ISDIR(os.stat(inside, dir_fd=folder, follow_symlinks=False).st_mode):
                os.close(_opened(folder, inside))  # its `..` changes, so it must be open to its owner
                moved += 1
                os.rename(inside, f".moved-{moved}-{os.urandom(8).hex()}", src_dir_fd=folder, dst_dir_fd=top)
            else:
                os.unlink(inside, dir_fd=folder)
    finally:
        os.close(folder)
    return moved


def _opened(parent: int, name: str) -> int:
    """Open a folder, opened to its owner first where a program had closed it."""
    path = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{path}", 0o700)  # the folder that is open, whatever stands at its name by now
        return os.open(name, _FOLDER, dir_fd=parent)
    finally:
        os.close(path)
