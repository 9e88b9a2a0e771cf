"""What a command does before NumPy is imported: choose how BLAS runs on this processor.

Our kernels share the work over threads themselves, each running single-threaded BLAS (`kernels/cpu/parallel.py`).
OpenBLAS picks its AVX2 kernels on AMD processors that have AVX-512, at about half the speed of its AVX-512 ones;
OPENBLAS_CORETYPE corrects that. The library never touches the environment: only the commands call this.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def prepare_blas() -> str | None:
    """Sets OpenBLAS's environment where the user has not; returns the core type chosen, for the log, or None."""
    if "numpy" in sys.modules:
        return None
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "OPENBLAS_CORETYPE" in os.environ or not _amd_with_avx512():
        return None
    os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
    return "SkylakeX"


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
