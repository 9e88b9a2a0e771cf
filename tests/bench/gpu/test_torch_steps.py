"""PyTorch's compiled and captured ways do the work of the plain peer: here on the CPU, with stand-ins for what needs a
GPU, numbers and all."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what PyTorch deprecates within itself
    torch = pytest.importorskip("torch", reason="PyTorch, the peer, is not installed: pip install -e '.[bench]'")
    from bench.gpu import torch_steps
    from bench.torch_peer import Peer

BATCH = 6


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is captured, and a compiler that compiles nothing."""
    monkeypatch.setattr(torch_steps, "capture", lambda update: update)
    monkeypatch.setattr(torch, "compile", lambda fn, **_: fn)
    precision, tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = tf32


def points() -> Any:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((60, 2)).astype(np.float32))


def after(variant: str, steps: int) -> tuple[list[float], dict[str, Any], list[Any]]:
    """Losses, parameters and running statistics of the mixture, which has no dropout, after some steps."""
    peer, step = torch_steps.build(variant, "mixture", points(), BATCH)
    torch.manual_seed(3)
    losses = [float(loss) for _ in range(steps) for loss in step()]
    running = [t for layer in peer.layers().values() if layer.row.norm for t in layer.running]
    return losses, peer.players[0] | peer.players[1], running


def test_compiled_gradients_take_the_same_steps() -> None:
    plain, compiled = after("eager fp32", 3), after("compile tf32", 3)
    assert compiled[0] == pytest.approx(plain[0], rel=1e-6)
    assert compiled[1].keys() == plain[1].keys()
    for name, value in plain[1].items():
        torch.testing.assert_close(compiled[1][name], value, rtol=1e-4, atol=1e-6)
    for one, other in zip(compiled[2], plain[2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_step_moves_every_parameter() -> None:
    peer, step = torch_steps.build("compile bf16", "mixture", points(), BATCH)
    named = peer.players[0] | peer.players[1]
    before = {name: p.detach().clone() for name, p in named.items()}
    step()
    # the last bias: at first both halves' gradients are of the same size and cancel
    assert {name for name, p in named.items() if torch.equal(p, before[name])} <= {"head.3.bias"}


def test_pure_dropout_keeps_as_many_and_as_much() -> None:
    peer = Peer("svhn")
    layer = peer.layers()["code_tower.0"]
    layer.product = lambda x: x  # type: ignore[method-assign]
    x = torch.ones(200, layer.parameters["weight"].shape[1], 1, 1)
    kept = layer(x, pure=True)
    assert float(kept.max()) == pytest.approx(1.25)
    assert float((kept > 0).float().mean()) == pytest.approx(0.8, abs=0.01)


def test_every_batch_is_another_one() -> None:
    static = torch_steps.Static(torch.arange(20)[:, None], 6)
    seen = []
    for _ in range(3):
        static.advance()
        seen.append(tuple(static.rows.tolist()))
    assert len(set(seen)) == 3
    assert all(len(set(rows)) == 6 for rows in seen)
