"""How Python, torch and the kernel say that memory is out."""

from __future__ import annotations

import errno

import torch

CPU = "can't allocate memory"  # how torch's allocator for CPUs says it, in a RuntimeError


def is_out(error: BaseException) -> bool:
    """Return whether an error is a want of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and CPU in str(error)
