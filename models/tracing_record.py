"""A module run once on an example, each of its calls on tensors of the example recorded, with where it stands.

The module runs for real: sizes, tests of sizes and loops over them are plain numbers, and whatever does not depend on
the example is computed as the module computes it. What depends on the *values* of the example cannot be recorded.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

from ..architectures import Shape

SIZES = {
    "size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size", "is_contiguous",
    "is_floating_point", "is_complex", "is_signed", "get_device", "__len__", "is_same_size", "hash", "type",
    "has_names", "is_inference", "is_pinned", "is_shared",
}  # fmt: skip
"""What tells sizes and kinds of a tensor, and nothing of its values."""
LIKE = {
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_tensor",
    "new_empty",
}  # fmt: skip
"""What makes a constant as large as a tensor."""
_HERE = (str(Path(torch.__file__).parent), str(Path(__file__).parent), f"<{torch.__name__}")


@dataclass(eq=False, repr=False)
class Value:
    """A tensor that depends on the example.

    Attributes:
        shape: Of one example.
        batch: Its first size.
        event: What made it; None for the example itself.
        floating: Whether it is float32.
    """

    shape: Shape
    batch: int
    event: "Event | None"
    floating: bool


@dataclass(eq=False, repr=False)
class Event:
    """A call on values.

    Attributes:
        function: The function, or None for a module.
        name: By which the code calls it.
        module: The module that is called as a whole.
        path: Of that module, or of the one in which the call stands.
        line: FILE:LINE of the code that makes the call, "" where it is all torch's own.
        args: Its arguments, values in place of tensors that depend on the example.
        kwargs: The same by name.
        reads: The values among them, in order.
        changes: Those of them that it changes.
        stale: What changed, by another name, a tensor that it reads.
        result: What it gives, values in place of tensors.
        made: The values that it makes.
    """

    function: Callable[..., Any] | None
    name: str
    module: nn.Module | None
    path: str
    line: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    reads: list[Value]
    changes: list[Value] = field(default_factory=list)
    stale: str = ""
    result: Any = None
    made: list[Value] = field(default_factory=list)

    @property
    def place(self) -> str:
        """The module's path, or that in which the call stands and its own name."""
        if self.module is not None:
            return self.path
        return f"{self.path}.{self.name}" if self.path else self.name


@dataclass
class Record:
    """What a run showed.

    Attributes:
        example: The value that the module was given.
        output: What it gave, values in place of tensors that depend on the example.
        events: Its calls, in order.
        problems: Calls whose results no record holds, one text each.
        names: Names of the module's parameters and buffers by id.
        learned: Of what parameters constants were computed, by id.
        kept: All tensors that were seen, which keeps ids apart.
    """

    example: Value
    output: Any = None
    events: list[Event] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    learned: dict[int, str] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)


def recorded(module: nn.Module, example: Tensor, whole: Callable[[nn.Module], bool]) -> Record:
    """Run `module` on `example` and return what it did; modules for which `whole` holds are one call.

    Raises:
        Whatever the module raises.
    """
    recorder = _Recorder(module, example, whole)
    with recorder.watching(), recorder:
        output = module(example)
    recorder.record.output = recorder.known(output)
    return recorder.record


def code_line() -> str:
    """Return FILE:LINE of the innermost code that is neither torch's nor Plait's reading; "" if there is none."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_HERE) and not file.startswith("<frozen"):
            return f"{_short(file)}:{frame.f_lineno}"
        if frame.f_code is recorded.__code__:
            return ""
        frame = frame.f_back
    return ""


def line_of(error: BaseException) -> str:
    """Return FILE:LINE of the innermost code in the error's traceback that is neither torch's nor ours."""
    found, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(_HERE) and not file.startswith("<frozen"):
            found = f"{_short(file)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _short(file: str) -> str:
    near = os.path.relpath(file) if os.path.isabs(file) else file
    return file if near.startswith("..") else near


class _Recorder(TorchFunctionMode):
    def __init__(self, module: nn.Module, example: Tensor, whole: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        first = Value(tuple(example.shape[1:]), len(example), None, example.dtype == torch.float32)
        self.record = Record(first)
        self._values = {id(example): first}
        self._tensors = {id(example): example}
        self._stale: dict[int, str] = {}
        self._whole, self._thread = whole, threading.get_ident()
        self._paths = {id(part): path for path, part in module.named_modules()}
        self._stack: list[str] = []
        self._leaf: nn.Module | None = None
        self._versions: list[int] = []
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self.record.names[id(tensor)] = name
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                self.record.learned[id(parameter)] = name

    def known(self, structure: Any) -> Any:
        """Return the structure with values in place of tensors that depend on the example."""
        return tree_map_only(Tensor, lambda tensor: self._values.get(id(tensor), tensor), structure)

    # -- functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        mine = [tensor for tensor in given if id(tensor) in self._values]
        if self._leaf is not None:
            return func(*args, **kwargs)
        if not mine:
            return self._constant(given, func(*args, **kwargs))
        name = _name(func)
        event = self._begin(func, name, None, args, kwargs, mine)
        versions = [tensor._version for tensor in given]
        result = func(*args, **kwargs)
        return self._end(event, given, versions, result)

    def _constant(self, given: list[Tensor], result: Any) -> Any:
        """Note of what parameters a constant was computed."""
        texts = [self.record.learned[id(tensor)] for tensor in given if id(tensor) in self.record.learned]
        learned = [name for text in texts for name in text.split(" and ")]
        if learned:
            for leaf in tree_flatten(result)[0]:
                if isinstance(leaf, Tensor) and id(leaf) not in self.record.learned:
                    self.record.learned[id(leaf)] = " and ".join(dict.fromkeys(learned))
                    self.record.kept.append(leaf)
        return result

    def _begin(self, func: Any, name: str, module: nn.Module | None, args: Any, kwargs: Any, mine: Any) -> Event:
        path = self._stack[-1] if self._stack else ""
        stale = next((self._stale[id(tensor)] for tensor in mine if id(tensor) in self._stale), "")
        reads = [self._values[id(tensor)] for tensor in mine]
        return Event(func, name, module, path, code_line(), self.known(args), self.known(kwargs), reads, stale=stale)

    def _end(self, event: Event, given: list[Tensor], versions: list[int], result: Any) -> Any:
        changed = [tensor for tensor, version in zip(given, versions, strict=True) if tensor._version != version]
        for tensor in changed:
            if id(tensor) not in self._values:
                self._problem(event, "writes what depends on the input into a constant")
        event.changes = [self._values[id(tensor)] for tensor in changed if id(tensor) in self._values]
        leaves = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        if not leaves and not changed:
            if event.name not in SIZES and not _tells_sizes(event.function):
                self._problem(event, "what follows depends on the values of the input")
            return result
        if event.name in LIKE:
            self.record.kept.append(result)
            return result
        own = {id(tensor) for tensor in given} - {id(tensor) for tensor in changed}
        if len(leaves) == 1 and id(leaves[0]) in own and event.name in _SAME:
            return result
        # A call that gives back what it was given gives another tensor, so that the two are told apart.
        result = tree_map_only(Tensor, lambda leaf: leaf.view(leaf.shape) if id(leaf) in own else leaf, result)
        for tensor in changed:
            self._outdate(tensor, event)
        self.record.events.append(event)
        for leaf in {id(leaf): leaf for leaf in (*changed, *tree_flatten(result)[0])}.values():
            if isinstance(leaf, Tensor):
                self._make(leaf, event)
        event.result = self.known(result)
        return result

    def _make(self, tensor: Tensor, event: Event) -> None:
        batch = len(tensor) if tensor.dim() else 0
        value = Value(tuple(tensor.shape[1:]), batch, event, tensor.dtype == torch.float32)
        event.made.append(value)
        self._values[id(tensor)], self._tensors[id(tensor)] = value, tensor
        self._stale.pop(id(tensor), None)

    def _outdate(self, changed: Tensor, event: Event) -> None:
        """Mark every other tensor that lies in the same memory."""
        memory = changed.untyped_storage().data_ptr()
        for key, tensor in self._tensors.items():
            if tensor is not changed and tensor.untyped_storage().data_ptr() == memory:
                self._stale[key] = f"{event.line or event.place} changed in place"

    def _problem(self, event: Event, why: str) -> None:
        text = f"{event.line}: " if event.line else ""
        text += f"{event.place} ({event.name}: {why})"
        if text not in self.record.problems:
            self.record.problems.append(text)

    # -- modules

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See which modules are called, in this thread, while this lasts."""
        before = nn.modules.module.register_module_forward_pre_hook(self._enter)
        after = nn.modules.module.register_module_forward_hook(self._leave, with_kwargs=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _enter(self, part: nn.Module, args: Any) -> None:
        if threading.get_ident() != self._thread or self._leaf is not None:
            return
        above = self._stack[-1] if self._stack else ""
        own = type(part).__name__
        self._stack.append(self._paths.get(id(part), f"{above}.{own}" if above else own))
        if self._whole(part):
            self._leaf = part
            given = [leaf for leaf in tree_flatten(args)[0] if isinstance(leaf, Tensor)]
            self._versions = [tensor._version for tensor in given]

    def _leave(self, part: nn.Module, args: Any, kwargs: Any, result: Any) -> Any:
        if threading.get_ident() != self._thread or self._leaf not in (None, part):
            return None
        if self._leaf is part:
            self._leaf = None
            with torch._C.DisableTorchFunction():
                result = self._called(part, args, kwargs, result)
        self._stack.pop()
        return result

    def _called(self, part: nn.Module, args: Any, kwargs: Any, result: Any) -> Any:
        given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        mine = [tensor for tensor in given if id(tensor) in self._values]
        if not mine:
            return self._constant([*given, *part.parameters()], result)
        if isinstance(part, nn.Identity):
            return result
        event = self._begin(None, type(part).__name__, part, args, kwargs, mine)
        versions = self._versions + [tensor._version for tensor in given[len(self._versions) :]]
        return self._end(event, given, versions, result)


_SAME = {"contiguous", "to", "float", "type", "cpu", "cuda", "requires_grad", "type_as"}
"""What may give back the tensor that it was given, and changes nothing."""


def _name(func: Any) -> str:
    """Return a function's name; of a property (`x.T`) that of the property."""
    name = str(getattr(func, "__name__", func))
    if name in ("__get__", "__set__"):
        own = str(getattr(getattr(func, "__self__", None), "__name__", name))
        return own if name == "__get__" else f"set {own}"
    return name if name == "__len__" else name.strip("_")


def _tells_sizes(func: Any) -> bool:
    """Return whether this is a property that is no tensor: shape, dtype, device."""
    return getattr(func, "__name__", "") == "__get__"
