"""The inside of the sandbox: handed to a bare interpreter as text; imports nothing of Plait and little else.

The first process is the keeper. It reads its job, starts the program in a second process under the limits, watches
it, and says how it ended (sandbox_keeper.py, which comes with the job). The second runs the program and then its
tests in the same interpreter. Both report lines of JSON to the descriptor in argv[1].

The job comes on stdin: eight bytes of length, a marshalled dictionary, then one token a test. A token is read only
once its test has passed, and reading it back is the one way to say so: a program that ends early never gets there.
"""

from __future__ import annotations

import _signal as signal  # what signal wraps; enum, typing, json and types double the time to start
import builtins
import marshal
import os
import resource
import sys
from _json import encode_basestring_ascii as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

TOKEN = 16
"""Bytes of a token."""
LONGEST = 1000
"""Characters of a detail."""
COMPARE = "__compare__"
"""What tests call in place of a comparison; `sandbox_asserts` writes it."""
PROBE = "probe"
"""In place of a descriptor: say whether this is its namespace's first process, whose library, if a filter holds."""
HEAP_TYPE = 1 << 9
TESTS = type(sys)("tests")
"""The module that tests run in: where their classes say that they are."""
METHODS = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__contains__")
HOLDERS: tuple[Any, ...] = (list, tuple, set, frozenset, dict)
SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "in": lambda a, b: a in b, "not in": lambda a, b: a not in b,
}  # fmt: skip


def tell(events: int, **fields: str | float) -> None:
    """Write one event."""
    said = (f'"{name}": {quoted(value) if isinstance(value, str) else value}' for name, value in fields.items())
    os.write(events, ("{" + ", ".join(said) + "}\n").encode())


def whole(source: int, size: int) -> bytes:
    """Return exactly `size` bytes; fewer where the source ends."""
    got = b""
    while len(got) < size and (part := os.read(source, size - len(got))):
        got += part
    return got


def main() -> None:
    """Read the job, start the program, keep it."""
    if sys.argv[1] == PROBE:
        probe()
    os.environ.pop("PWD", None)  # bubblewrap's
    events = int(sys.argv[1])
    os.set_inheritable(events, False)
    job = marshal.loads(whole(0, int.from_bytes(whole(0, 8), "big")))
    job["folder"], job["top"] = os.getcwd(), os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    tokens = os.dup(0)
    if job["stdin"]:
        given = os.memfd_create("stdin")
        os.write(given, job["stdin"])
        os.lseek(given, 0, os.SEEK_SET)
    else:
        given = os.open(os.devnull, os.O_RDONLY)
    os.dup2(given, 0)
    os.close(given)
    keeper: dict[str, Any] = {"__name__": "keeper"}
    exec(job["keeper"], keeper)
    first = {place: keeper["held"](place)[1] for place in job["own_memory"]}
    tell(events, started=1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    child = os.fork()
    if child:
        os.close(tokens)
        keeper["keep"](lambda **fields: tell(events, **fields), job, child, first)
    os.close(job["top"])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    if os.getppid() == 1:
        os.setsid()  # schedulers share time among sessions first: many processes cannot starve the keeper
    for name, most in job["limits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        # of processor time the soft limit ends a program: its signal says why. A program that ignores it meets the hard
        last = most + 1 if name == "RLIMIT_CPU" else most
        last = last if hard == resource.RLIM_INFINITY else min(last, hard)
        resource.setrlimit(kind, (min(most, last), last))
    if job["filter"]:
        refuse_calls(job["filter"])
    play(events, job, tokens)


def probe() -> NoReturn:
    """Say what this way of starting comes to."""
    with open("written", "wb") as file:
        file.write(b"x")
    print(os.getpid() == 1)
    print(sys.modules["encodings"].__file__)
    try:
        refuse_calls(whole(0, 1 << 16))
        print("filtered")
    except (ImportError, OSError) as error:
        print(f"not filtered: {error}")
    sys.exit(0)


def refuse_calls(rules: bytes) -> None:
    """Put a filter of system calls before this process and all that it starts; nothing takes it away again.

    Raises:
        OSError: the kernel, or the machine, takes none.
    """
    import _ctypes  # what ctypes wraps, which takes longer to import than all else here

    c: Any = _ctypes
    pointer, byte = (type("Plain", (c._SimpleCData,), {"_type_": kind}) for kind in "Pc")
    call = type("Call", (c.CFuncPtr,), {"_flags_": c.FUNCFLAG_CDECL, "_restype_": pointer})

    def bytes_at(content: bytes) -> Any:
        return type("Bytes", (c.Array,), {"_type_": byte, "_length_": len(content)})(*content)

    prctl: Any = call(c.dlsym(c.dlopen(None, 0), "prctl"))
    code = bytes_at(rules)
    program = bytes_at((len(rules) // 8).to_bytes(8, sys.byteorder) + c.addressof(code).to_bytes(8, sys.byteorder))
    no_new_privileges, seccomp, by_filter = 38, 22, 2
    for words in ((no_new_privileges, 1, 0, 0, 0), (seccomp, by_filter, c.addressof(program), 0, 0)):
        if not rules or prctl(*map(pointer, words)):
            raise OSError("no filter of system calls")


def play(events: int, job: dict[str, Any], tokens: int) -> None:
    """Run the program, and its tests where it has some."""
    kept = dict(builtins.__dict__)  # what Python's own names mean, whatever the program does to them
    module = type(sys)("__main__" if job["tests"] is None else "program")
    sys.modules[module.__name__] = module
    sys.argv = ["program.py"]
    sys.path.extend(job["packages"])
    sys.path.insert(0, job["folder"])
    builtins.__dict__.update({"exit": sys.exit, "quit": sys.exit})  # as start-up files of a script do
    try:
        exec(compile(job["program"], "program.py", "exec"), module.__dict__)
    except BaseException as error:
        builtins.__dict__.update(kept)
        tell(events, raised=type(error).__name__, detail=described(error))
        if isinstance(error, SystemExit) and job["tests"] is None:
            raise
        shown(error, job["program"])
        sys.exit(1)
    if job["tests"] is not None:
        sys.settrace(None)
        sys.setprofile(None)
        builtins.__dict__.update(kept)
        check(events, job, tokens, module.__dict__, kept)


def check(events: int, job: dict[str, Any], tokens: int, program: dict[str, Any], kept: dict[str, Any]) -> None:
    """Run the tests one after another; hand back the token of each that holds, say what is wrong with the others."""
    sys.modules["tests"] = TESTS
    names = TESTS.__dict__
    names.update({name: value for name, value in program.items() if name not in kept or name == job["entry_point"]})
    compared: list[str] = []
    names.update({"__builtins__": kept, "__name__": "tests", COMPARE: comparison(compared)})
    try:
        exec(compile(job["setup"], "setup.py", "exec"), names)
    except BaseException as error:
        tell(events, raised=type(error).__name__, detail=f"setup of the tests: {described(error)}"[:LONGEST])
        os._exit(1)
    for place, test in enumerate(job["tests"]):
        compared.clear()
        try:
            exec(compile(test, "test.py", "exec"), names)
        except BaseException as error:
            whole(tokens, TOKEN)
            detail = described(error)
            if type(error) is AssertionError and compared:
                detail = f"{detail}: not so: {compared[-1]}"
            tell(events, test=place, raised=type(error).__name__, detail=detail[:LONGEST])
        else:
            tell(events, test=place, token=whole(tokens, TOKEN).hex())
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the program closed it
            continue
    os._exit(0)


def comparison(compared: list[str]) -> Callable[..., Any]:
    """Return what stands in tests for a comparison: plain values are never compared by a method of the program's own.

    Args:
        compared: Where the last comparison that did not hold is told.
    """

    def compare(signs: tuple[str, ...], *values: Any) -> Any:
        own = [programs_own(value) for value in values]
        if any(own) and not all(own):
            raise AssertionError("a plain value is compared by a method that the program wrote")
        result: Any = True
        for sign, first, second in zip(signs, values, values[1:], strict=False):
            result = SIGNS[sign](first, second)
            if result is False:
                compared.append(f"{short(first)} {sign} {short(second)}")
            if len(signs) > 1 and not result:
                break
        return result

    return compare


def programs_own(value: Any) -> bool:
    """Whether comparing `value`, or anything that it holds, runs a method of a class that the program made."""
    todo, seen = [value], set()
    while todo:
        each = todo.pop()
        kind = type(each)
        for base in type.__dict__["__mro__"].__get__(kind):
            if any(name in base.__dict__ for name in METHODS):
                if base.__flags__ & HEAP_TYPE and not known(base):
                    return True
                break
        if id(each) not in seen:
            seen.add(id(each))
            for holder in HOLDERS:
                if issubclass(kind, holder):
                    todo.extend(holder.__iter__(each))
            if issubclass(kind, dict):
                todo.extend(dict.values(each))
    return False


def known(kind: type) -> bool:
    """Whether a class is no program's: of a module other than the program, where it says it is, or of the tests."""
    module = sys.modules.get(kind.__module__)
    elsewhere = kind.__module__ not in ("program", "tests") and module is not None
    return (elsewhere and module.__dict__.get(kind.__name__) is kind) or tests_own(kind)


def tests_own(kind: type) -> bool:
    """Whether each comparison of a class is a function of the tests, or of their setup, which runs before the program.

    A function's globals tell where it was made: they can be given to it by nobody but who holds them.
    """
    names = TESTS.__dict__
    twin = names.get(kind.__name__)
    of_twin = type.__dict__["__dict__"].__get__(twin) if isinstance(twin, type) else {}
    for name in METHODS:
        method, same = kind.__dict__.get(name), of_twin.get(name)
        if type(method) is type(object.__eq__) or method is None:
            continue
        if type(method) is not type(known):
            return False
        inherited = method.__module__ == "functools" and method.__globals__ is sys.modules["functools"].__dict__
        setups = type(same) is type(known) and same.__globals__ is names and same.__code__ == method.__code__
        if method.__globals__ is not names and not inherited and not setups:
            return False
    return True


def short(value: object) -> str:
    """Return `value` in a line, or its type where it cannot be shown."""
    try:
        text = repr(value)
    except BaseException:
        return f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:200]}..."


def described(error: BaseException) -> str:
    """Return type and message of an error."""
    try:
        said = str(error)
    except BaseException:  # the program's own __str__
        said = ""
    return f"{type(error).__name__}: {said}"[:LONGEST] if said else type(error).__name__


def shown(error: BaseException, program: str) -> None:
    """Write the traceback as Python would, from the program on."""
    import linecache
    import traceback

    lines = program.splitlines(keepends=True)
    linecache.cache["program.py"] = (len(program), None, lines, "program.py")
    inside = error.__traceback__.tb_next if error.__traceback__ else None
    traceback.print_exception(type(error), error, inside)


if __name__ == "__main__":
    main()
