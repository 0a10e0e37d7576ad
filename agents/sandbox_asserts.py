"""Tests as the sandbox runs them: each comparison becomes a call that a program's own `__eq__` cannot answer."""

import ast
from functools import lru_cache

from ..errors import SpecError
from .sandbox_child import COMPARE, SIGNS

_SIGN: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=",
    ast.Gt: ">", ast.GtE: ">=", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
assert set(_SIGN.values()) == set(SIGNS)


class _Guard(ast.NodeTransformer):
    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if not all(type(sign) in _SIGN for sign in node.ops):  # `is` asks no object for its opinion
            return node
        signs = ast.Tuple([ast.Constant(_SIGN[type(sign)]) for sign in node.ops], ast.Load())
        call = ast.Call(ast.Name(COMPARE, ast.Load()), [signs, node.left, *node.comparators], [])
        return ast.copy_location(call, node)


@lru_cache(maxsize=4096)
def guarded(test: str) -> str:
    """Return `test` with its comparisons guarded.

    The operands of a chain such as `0 < f(x) < g(x)` are all evaluated, also where the first comparison fails.

    Raises:
        SpecError: it is no Python.
    """
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpecError("sandbox: test", test[:200], f"Python ({error})") from None
    return ast.unparse(ast.fix_missing_locations(_Guard().visit(tree)))
