"""What a command does before NumPy is imported: choose how BLAS and the allocator behave on this machine.

* Our kernels share the work over threads themselves, each running single-threaded BLAS (`kernels/cpu/parallel.py`).
* OpenBLAS picks its AVX2 kernels on AMD processors that have AVX-512, at about half the speed of its AVX-512 ones;
  OPENBLAS_CORETYPE corrects that.
* The C library gives arrays of many megabytes back to the system as soon as they die, and the next step faults the same
  pages in again: 5,800 page faults a step of SVHN. Told to keep them, it has none, at the same peak memory.

The library never touches the environment: only the commands call this.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

#: glibc's mallopt: numbers of the parameters, and "never" as a size
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def prepare() -> str | None:
    """Sets up BLAS and the allocator; returns the OpenBLAS core type chosen, for the log, or None."""
    keep_memory()
    return prepare_blas()


def prepare_blas() -> str | None:
    """Sets OpenBLAS's environment where the user has not; returns the core type chosen, or None."""
    if "numpy" in sys.modules:
        return None
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "OPENBLAS_CORETYPE" in os.environ or not _amd_with_avx512():
        return None
    os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
    return "SkylakeX"


def keep_memory() -> bool:
    """Has the C library keep freed memory for the next step; whether it could (glibc only)."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _NEVER))


def _amd_with_avx512() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "AuthenticAMD" in text and all(f" {flag} " in text for flag in ("avx512f", "avx512bw", "avx512vl"))


def default_threads() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
