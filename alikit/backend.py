"""Where arrays live: the one place outside `kernels/` that knows which array library holds them."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from alikit.errors import DeviceError, UsageError
from alikit.kernels import device, graph
from alikit.kernels.arrays import array_module as array_module
from alikit.kernels.cpu import passes
from alikit.kernels.cpu.parallel import set_threads as set_threads
from alikit.kernels.cpu.parallel import settle as settle
from alikit.kernels.device import from_host as from_host
from alikit.kernels.device import zeros as zeros
from alikit.kernels.graph import Memory as Memory

#: "fused" where Numba compiles the CPU's elementwise passes, else "plain"
CPU_PASSES = passes.CHOSEN

PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32", "tf32", "bf16")}


def choose_device(wanted: str) -> tuple[str, str]:
    """Resolves "auto", "cpu" or "cuda" to (device, reason).

    DeviceError where "cuda" is asked for and cannot be used; "auto" falls back to the CPU and says why.
    """
    if wanted == "cpu":
        return "cpu", "as asked"
    obstacle = _cuda_obstacle()
    if obstacle is None:
        return "cuda", "as asked" if wanted == "cuda" else "a usable GPU was found"
    if wanted == "cuda":
        raise DeviceError(f"--device cuda: {obstacle}")
    return "cpu", obstacle


def _cuda_obstacle() -> str | None:
    """Why CUDA cannot be used, or None."""
    if importlib.util.find_spec("alikit.kernels.gpu") is None:
        return "this version of alikit has no GPU kernels"
    if importlib.util.find_spec("cupy") is None:
        return 'CuPy is not installed (pip install "alikit[cuda13]")'
    import cupy

    try:
        return None if cupy.cuda.runtime.getDeviceCount() else "no NVIDIA GPU was found"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"the CUDA driver does not answer ({error})"


def check_precision(device: str, precision: str) -> None:
    """UsageError where the device cannot give the precision."""
    if precision not in PRECISIONS[device]:
        have = ", ".join(PRECISIONS[device])
        raise UsageError(f"--precision {precision}: the device {device} gives {have}")


def to_numpy(x: Any) -> np.ndarray:
    """A NumPy array of x; copies from a GPU where it lies there."""
    return np.asarray(x.get() if hasattr(x, "get") else x)


def compute_dtype(precision: str) -> Any:
    """The dtype of activations and of the weights that kernels read: bfloat16 for "bf16", else float32."""
    if precision != "bf16":
        return np.dtype(np.float32)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def device_memory() -> int:
    """Free bytes on the device."""
    if device.mode() != "cuda":
        return 1 << 40
    import cupy

    return int(cupy.cuda.runtime.memGetInfo()[0])


def step_memory() -> Memory:
    """Where a step's launches get their memory, and what captures them."""
    return graph.step_memory()
