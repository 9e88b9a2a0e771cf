"""alikit: Adversarially Learned Inference (Dumoulin et al. 2016) from nothing: engine, kernels, networks, training.

    import alikit
    model = alikit.load("runs/00000-svhn")     # a run folder or a checkpoint
    z = model.encode(x)                        # x: (N, 32, 32, 3) float32 in [0, 1]  ->  z: (N, 256)
    x = model.decode(z)

Names are imported when they are first used, so that `import alikit` costs nothing and the commands can set up the
BLAS library before NumPy is loaded.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: public name -> module that defines it
_PUBLIC = {
    "Tensor": "alikit.autograd",
    "grad": "alikit.autograd",
    "gradcheck": "alikit.autograd",
    "no_grad": "alikit.autograd",
    "load": "alikit.inference",
    "open_dataset": "alikit.data",
    "set_threads": "alikit.backend",
}
__all__ = ["Tensor", "__version__", "grad", "gradcheck", "load", "no_grad", "open_dataset", "set_threads"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'alikit' has no attribute {name!r}")
    if _PUBLIC[name] == "alikit.autograd":
        import_module("alikit.ops")  # attaches the operators to Tensor
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
