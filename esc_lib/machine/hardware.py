"""Where to compute, and with what precision."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def best_device() -> torch.device:
    """Return the accelerator of this machine, or its CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def best_precision() -> str:
    """Return Lightning Fabric's name for the fastest safe precision of this machine."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return "bf16-mixed"
    return "32-true"


def autocast(device: torch.device) -> torch.autocast:
    """Return a context in which networks run in :func:`best_precision` on `device`."""
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(best_precision())
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next allocation instead of returning it.

    By default glibc hands every large block back to the kernel and has it cleared page by page
    when it is asked for again: a quarter of a training step on a CPU. Only Linux with glibc is
    touched, and only this process.
    """
    if not sys.platform.startswith("linux"):
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
        mallopt(_M_TOP_PAD, 256 * 1024**2)


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Have torch compute on so many CPU threads, and afterwards on as many as before.

    Examples
    --------
    >>> with torch_threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
