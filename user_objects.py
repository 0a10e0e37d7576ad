"""What a Python file of the user's defines, by `module:FILE.py:NAME`: networks and examples for the command line.

The file's code runs, with the rights of whoever runs Plait: it is named on purpose, never found by itself. Nothing is
unpickled here; a file that does so itself says how.
"""

import inspect
import sys
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from .errors import SpecError, nearest

PREFIX = "module:"
FORM = "module:FILE.py:NAME, what NAME is in FILE.py, or what it returns where it is a function or a class"


def names_object(text: object) -> bool:
    """Return whether `text` has the form."""
    return isinstance(text, str) and text.startswith(PREFIX)


def object_of(text: str, where: str) -> Any:
    """Return what `module:FILE.py:NAME` names; a function or a class is called without arguments.

    Raises:
        SpecError: there is no such file or name, or its code raises; the error has the first line of that.
    """
    file, _, name = text.removeprefix(PREFIX).rpartition(":")
    if not file or not name.isidentifier():
        raise SpecError(where, text, FORM)
    place = Path(file)
    if not place.is_file():
        raise SpecError(where, f"{file}: no such file", FORM)
    module = _module(place.resolve(), where)
    if not hasattr(module, name):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise SpecError(where, text, f"a name that {file} defines: {nearest(name, public)}")
    value = getattr(module, name)
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        return value
    try:
        return value()
    except Exception as error:  # the user's code may raise anything
        raise SpecError(where, f"{text}: {first_line(error)}", "a call without arguments that returns") from error


def _module(place: Path, where: str) -> Any:
    """Return the module of a file, run once a process and content; what lies beside the file can be imported by it."""
    try:
        name = f"plait_user_{sha256(str(place).encode() + place.read_bytes()).hexdigest()[:16]}"
    except OSError as error:
        raise SpecError(where, f"{place}: {error.strerror}", "a Python file") from error
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise SpecError(where, str(place), "a Python file, .py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(place.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        del sys.modules[name]
        raise SpecError(where, f"{place}: {first_line(error)}", "a file whose code runs") from error
    finally:
        if str(place.parent) in sys.path:
            sys.path.remove(str(place.parent))
    return module


def first_line(error: Exception) -> str:
    """Return an error's type and the first line of its text."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"[:200]
