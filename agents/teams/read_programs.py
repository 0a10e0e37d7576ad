"""The program of a reply: the last block that defines what was asked for, with the helpers that it needs.

Models show a program and then use it, test it or print what it returns: the last block is seldom the program.
Pure text; must not run anything.
"""

import ast
import builtins
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[ \t]*([^\n`]*)$")
_OTHER = re.compile(
    r"json\w*|te?xt|plaintext|out(?:put)?|console|(?:ba|z)?sh|shell|cmd|powershell|j(?:ava)?s(?:cript)?|t(?:ype)?s(?:cript)?"
    r"|java|c|cpp|c\+\+|csharp|c#|go|rust|ruby|r|sql|html|css|xml|ya?ml|toml|ini|csv|markdown|md|diff|(?:la)?tex"
)
"""Languages of blocks that hold no Python."""
_STARTS = re.compile(r"^(?:def |class |import |from |@|async def |[A-Za-z_]\w* = |if __name__)", re.MULTILINE)
_WRITES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_KNOWN = frozenset(dir(builtins)) | {"__name__", "__file__", "self", "cls"}


class Program(NamedTuple):
    """A program, or None and why there is none."""

    source: str | None
    error: str = ""


@dataclass(frozen=True)
class _Block:
    """A block of code and what it parses to; None where it does not, and `error` says why."""

    source: str
    tree: ast.Module | None
    error: str = ""

    @property
    def defines(self) -> frozenset[str]:
        """Names that it binds at its outermost level."""
        return frozenset() if self.tree is None else frozenset(_bound(self.tree.body))

    @property
    def needs(self) -> frozenset[str]:
        """Names that it reads and nowhere binds."""
        if self.tree is None:
            return frozenset()
        read = {
            node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        bound = {
            node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
        }
        bound |= {node.arg for node in ast.walk(self.tree) if isinstance(node, ast.arg)}
        bound |= {node.name for node in ast.walk(self.tree) if isinstance(node, ast.ExceptHandler) and node.name}
        inner = {node.name for node in ast.walk(self.tree) if isinstance(node, _WRITES[2:])}
        return frozenset(read - bound - inner - self.defines - _KNOWN)

    @property
    def runs(self) -> bool:
        """Whether running it does something: it is more than a value, such as JSON or what a program printed."""
        if self.tree is None:
            return False
        return any(not isinstance(node, ast.Expr) or _calls(node) for node in self.tree.body)


def program_of(text: str, entry_point: str = "") -> Program:
    """Return the program of a reply.

    Args:
        text: The reply.
        entry_point: What it must define; "" for a program that is to be run as it stands.
    """
    blocks = [block for source in _fenced(text) if (block := _block(source)) is not None]
    if not blocks:
        return _unfenced(text, entry_point)
    if entry_point:
        chosen = _last_defining(blocks, entry_point)
        if isinstance(chosen, Program):
            return chosen
    else:
        running = [at for at, block in enumerate(blocks) if block.runs]
        broken = [block.error for block in blocks if block.tree is None]
        if not running:
            why = f"the program does not parse ({broken[-1]})" if broken else "its block does nothing"
            return Program(None, why)
        chosen = running[-1]
    return Program(_joined(blocks, chosen))


def _last_defining(blocks: Sequence[_Block], entry_point: str) -> int | Program:
    """Return the place of the last block that defines the entry point, or why none can be taken."""
    tried = re.compile(
        rf"^(?:async\s+def|def|class)\s+{re.escape(entry_point)}\b|^{re.escape(entry_point)}\s*=", re.MULTILINE
    )
    for at in range(len(blocks) - 1, -1, -1):
        if entry_point in blocks[at].defines:
            return at
        if blocks[at].tree is None and tried.search(blocks[at].source):
            return Program(None, f"the program does not parse ({blocks[at].error})")
    broken = [block.error for block in blocks if block.tree is None]
    if broken and not any(block.runs for block in blocks):
        return Program(None, f"the program does not parse ({broken[-1]})")
    return Program(None, f"no block of it defines {entry_point}")


def _joined(blocks: Sequence[_Block], chosen: int) -> str:
    """Return a block, before it the definitions that it needs of others, the nearest that have them."""
    main = blocks[chosen]
    order = [*range(chosen - 1, -1, -1), *range(chosen + 1, len(blocks))]
    needed, taken, resolved = set(main.needs), dict[int, str](), set(main.defines)
    while missing := needed - resolved:
        name = min(missing)
        resolved.add(name)
        giver = next((at for at in order if name in blocks[at].defines), None)
        if giver is None or giver in taken:
            continue
        taken[giver] = _definitions(blocks[giver], main.defines)
        needed |= blocks[giver].needs
        resolved |= blocks[giver].defines
    parts = [taken[at].strip("\n") for at in sorted(taken)]
    return "\n\n\n".join([part for part in parts if part] + [main.source])


def _definitions(block: _Block, others: frozenset[str]) -> str:
    """Return what a block defines, without its uses and tests, and without what the program defines itself."""
    lines = block.source.splitlines()
    kept: list[str] = []
    assert block.tree is not None
    for node in block.tree.body:
        main = isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        if isinstance(node, ast.Expr | ast.Assert | ast.For | ast.While | ast.With) or main:
            continue
        if isinstance(node, _WRITES[2:]) and node.name in others:
            continue
        decorators = [one.lineno for one in getattr(node, "decorator_list", [])]
        kept.append("\n".join(lines[min([node.lineno, *decorators]) - 1 : node.end_lineno]))
    return "\n".join(kept)


def _unfenced(text: str, entry_point: str) -> Program:
    """Return the program of a reply without fences: from its first line of code, without prose behind it."""
    start = _STARTS.search(text)
    lines = text[start.start() :].splitlines() if start else []
    while lines:
        block = _block("\n".join(lines))
        if block is not None and block.tree is not None and block.runs:
            kept = _without_values(block)
            if not entry_point or entry_point in kept.defines:
                return Program(kept.source.rstrip())
            return Program(None, f"it does not define {entry_point}")
        lines.pop()
    return Program(None, "it holds no Python program in a fenced block")


def _without_values(block: _Block) -> _Block:
    """Return a block without values at its end that nothing is done with: `[DONE]`."""
    assert block.tree is not None
    body = list(block.tree.body)
    while body and isinstance(body[-1], ast.Expr) and not _calls(body[-1]):
        body.pop()
    end = body[-1].end_lineno if body else 0
    source = "\n".join(block.source.splitlines()[:end])
    return _block(source) or block


def _fenced(text: str) -> Iterator[str]:
    """Yield the contents of fenced blocks, of whatever indentation, the last one closed or not; no other language's."""
    lines, inside, fence, language = text.splitlines(), list[str](), "", ""
    for line in lines:
        match = _FENCE.match(line)
        if fence:
            closes = (
                match is not None and match[1][0] == fence[0] and len(match[1]) >= len(fence) and not match[2].strip()
            )
            if closes:
                if not _OTHER.fullmatch(language):
                    yield "\n".join(inside)
                fence, inside = "", []
            else:
                inside.append(line)
        elif match is not None:
            fence, language = match[1], (match[2].split() or [""])[0].strip("{}.").lower()
    if fence and not _OTHER.fullmatch(language):
        yield "\n".join(inside)
    if "```" in text and not any(map(_FENCE.match, lines)):
        yield from (match[1] for match in re.finditer(r"```(?:python\s)?(.+?)```", text, re.DOTALL))


def _block(source: str) -> _Block | None:
    """Return a block; None where it is empty."""
    plain = source.strip("\n")
    if plain[:1].isspace():  # dedented only where it must be: within texts, spaces mean something
        plain = textwrap.dedent(plain)
    plain = re.sub(r"\A(?:python3?|py)\n", "", plain)
    if not plain.strip():
        return None
    try:
        return _Block(plain, ast.parse(plain))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return _Block(plain, None, " ".join(str(error).split()))


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the names that statements bind, those within `if`, `try` and `with` among them, those of functions not."""
    for node in body:
        if isinstance(node, _WRITES[2:]):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((name.asname or name.name).split(".")[0] for name in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if node.value else []
            yield from (one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))
        else:
            for field in ("body", "orelse", "finalbody"):
                yield from _bound(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from _bound(handler.body)


def _calls(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Call | ast.Await | ast.Yield) for inner in ast.walk(node))


__all__ = ["Program", "program_of"]
