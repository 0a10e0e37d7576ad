"""Memory that a process holds and does not use. Knows no model."""

import ctypes
import ctypes.util
import gc


def give_back_freed_memory() -> None:
    """Return freed heap pages to the system: reading a model's files and tokenizer leaves tens of MiB of them.

    glibc keeps such pages for later allocations; each further host of a node would keep its own. Does nothing where
    the C library has no `malloc_trim`.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(ctypes.util.find_library("c")), "malloc_trim", None)
    if trim is not None:
        trim(0)
