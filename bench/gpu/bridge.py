"""The same numbers in PyTorch's memory and in alikit's, on one GPU. torch is imported with the module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

DEVICE_TO_DEVICE = 3
TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def numpy_type(dtype: torch.dtype) -> Any:
    """NumPy's type of the same bits."""
    if dtype == torch.bfloat16:
        from ml_dtypes import bfloat16

        return np.dtype(bfloat16)
    return np.dtype(TYPES[dtype])


def to_alikit(x: torch.Tensor, *, activation: bool = True) -> Any:
    """A copy of a tensor (N, C, H, W) as (N, H, W, C): an activation, in padded pixels where needed, or a weight."""
    from alikit.kernels import device

    nhwc = (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).contiguous()
    make = device.empty_activation if activation else device.empty
    out = make(tuple(nhwc.shape), numpy_type(x.dtype))
    if out.flags.c_contiguous:
        torch.cuda.synchronize()
        _copy(out.data.ptr, nhwc.data_ptr(), nhwc.numel() * nhwc.element_size())
        return out
    kind = numpy_type(x.dtype)
    host = nhwc.view(torch.int16).cpu().numpy().view(kind) if kind.itemsize == 2 else nhwc.cpu().numpy()
    return device.from_host(host, kind, activation=True)


def to_torch(x: Any) -> torch.Tensor:
    """A copy of alikit's array (N, H, W, C) as (N, C, H, W) float32."""
    from alikit.kernels import device

    host = torch.from_numpy(device.to_host(x).astype(np.float32)).to("cuda")
    return host.permute(0, 3, 1, 2) if host.ndim == 4 else host


def _copy(target: int, source: int, size: int) -> None:
    from alikit.kernels import device

    runtime = device.module().cuda.runtime
    runtime.memcpyAsync(target, source, size, DEVICE_TO_DEVICE, 0)
    runtime.deviceSynchronize()
