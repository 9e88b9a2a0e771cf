"""A small product to compile, and folders of its own for what a test compiles."""

import dataclasses
from pathlib import Path

import pytest

from alikit.kernels import plan
from alikit.kernels.launch import Launch, jit, tl


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of cubins; Triton's cache lies beside it."""
    monkeypatch.setenv("ALIKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    return tmp_path / "cache" / "cubins"


@dataclasses.dataclass(frozen=True)
class Sizes:
    K: int
    dot: str
    BM: int = 64
    pitch: int = 64
    w_pitch: int = 64

    @property
    def steps(self) -> int:
        return self.K // 32


@jit
def conv_like(a_ptr, w_ptr, y_ptr, G: tl.constexpr, BN: tl.constexpr):
    BM: tl.constexpr = G.BM
    m, n, k = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, 32)
    acc = tl.zeros((BM, BN), tl.float32)
    for step in range(G.steps):
        a = tl.load(a_ptr + m[:, None] * G.K + step * 32 + k[None, :])
        b = tl.load(w_ptr + (step * 32 + k)[:, None] * BN + n[None, :])
        acc = tl.dot(a, b, acc, input_precision="ieee" if G.dot == "fp32" else "tf32")
    tl.store(y_ptr + m[:, None] * BN + n[None, :], acc)


def matmul(dot: str, columns: int, unaligned: tuple[str, ...] = ()) -> Launch:
    kind = "*bf16" if dot == "bf16" else "*fp32"
    signature = (("a_ptr", kind), ("w_ptr", kind), ("y_ptr", "*fp32"), ("G", "constexpr"), ("BN", "constexpr"))
    constants = (("G", Sizes(256, dot)), ("BN", columns))
    return Launch(conv_like, (1, 1, 1), signature, constants, unaligned, 4, 3)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels and records are found by name, also those of this file."""
    find = plan._find
    monkeypatch.setattr(plan, "_find", lambda name: globals().get(name.partition(":")[2]) or find(name))
