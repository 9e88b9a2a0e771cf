"""The GPU's Adam against the CPU's: partial sums, rounded copies, the clock; its step size in float64; the average."""

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from triton.runtime import interpreter

from alikit.kernels import device
from alikit.kernels.cpu import adam as cpu
from alikit.kernels.gpu import adam, adam_kernels
from alikit.kernels.launch import Int64, jit, launch, recording, tl

SETTINGS = {"lr": 0.01, "beta1": 0.5, "beta2": 0.999, "eps": 1e-8}
BF16 = ml_dtypes.bfloat16
# shape, partial sums, the copy's pixels; the places of some are multiples of 16 bytes, those of others are not
TENSORS = [
    ((2, 2, 1, 3), 3, "padded"),
    ((8,), 1, None),
    ((2, 1, 1, 8), 9, "dense"),
    ((1,), 1, None),
    ((9, 1, 1, 9), 1, "dense"),
    ((2, 1, 8), 1, "dense"),
    ((2, 1, 1, 4), 5, None),
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a tensor is many blocks, and its last program adds up in turns."""
    monkeypatch.setattr(adam, "BLOCK", 8)
    monkeypatch.setattr(adam, "PIECE", 4)


class Problem:
    """The same parameters on both sides."""

    def __init__(self, put: Callable, stream: Callable, tensors: list[tuple] = TENSORS):
        self.put, self.stream, self.tensors = put, stream, tensors
        size = sum(math.prod(shape) for shape, *_ in tensors)
        self.host = [stream(name).standard_normal(size).astype(np.float32) for name in ("p", "m", "v")]
        self.host[2] **= 2
        self.device = [put(a, out=True) for a in self.host]
        self.low = [self._copy(shape, kind) for shape, _, kind in tensors]

    @staticmethod
    def _copy(shape: tuple, kind: str | None) -> Any:
        if kind is None:
            return None
        x = device.from_host(np.zeros(shape), BF16, activation=kind == "padded")
        x[...] = np.nan  # and not the pads
        return x

    def grads(self, name: str) -> list[np.ndarray]:
        """One array a tensor, of (S, *shape) where there are partial sums."""
        shapes = [shape if n == 1 else (n, *shape) for shape, n, _ in self.tensors]
        return [self.stream(f"{name}{i}").standard_normal(s).astype(np.float32) for i, s in enumerate(shapes)]

    def step(self, grads: list[np.ndarray], step: int, clock: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """One step on both sides; the squared norms found and wanted."""
        whole = [g if n == 1 else np.add.reduce(g, axis=0) for g, (_, n, _) in zip(grads, self.tensors, strict=True)]
        out, out_m, out_v = self.host
        wanted = cpu.adam_step(whole, out=out, out_m=out_m, out_v=out_v, step=step, **SETTINGS)
        out, out_m, out_v = self.device
        found = adam.adam_step(
            [self.put(g) for g in grads],
            out=out,
            out_m=out_m,
            out_v=out_v,
            step=step if clock is None else clock,
            out_low=self.low,
            **SETTINGS,
        )
        return device.to_host(found), wanted

    def compare(self) -> None:
        """Both sides' buffers, and the copies with the rounded parameters."""
        for found, wanted in zip(self.device, self.host, strict=True):
            np.testing.assert_allclose(device.to_host(found), wanted, rtol=1e-6, atol=1e-7)
        start = 0
        for low, (shape, *_) in zip(self.low, self.tensors, strict=True):
            part = device.to_host(self.device[0])[start : start + math.prod(shape)].reshape(shape)
            if low is not None:
                np.testing.assert_array_equal(device.to_host(low), part.astype(BF16))
                assert device.pitch(low) == shape[-1] or not low.base[..., shape[-1] :].any()
            start += math.prod(shape)


@pytest.mark.usefixtures("program_order")
def test_steps_equal_the_cpu_s(put: Callable, stream: Callable) -> None:
    problem = Problem(put, stream)
    for step in (1, 7):
        found, wanted = problem.step(problem.grads(f"g{step}"), step)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        problem.compare()


def test_programs_of_all_tensors_may_run_in_turns(
    put: Callable, stream: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors one after the other would not show that they count their programs apart."""
    place, builder = interpreter.interpreter_builder.set_grid_idx, interpreter.interpreter_builder
    monkeypatch.setattr(builder, "set_grid_idx", lambda i, j, k: place(i // 2 + i % 2 * builder.grid_dim[0] // 2, j, k))
    problem = Problem(put, stream, [((8 * n,), 1, None) for n in (3, 5)])
    found, wanted = problem.step(problem.grads("g"), 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    problem.compare()


@pytest.mark.parametrize("updates", [0, 4, 10**6 - 1])
def test_the_clock_tells_t(updates: int, put: Callable, stream: Callable) -> None:
    problem = Problem(put, stream, [((3, 7), 1, None)])
    clock = put(np.array([5, 77, updates], np.int64))
    problem.step(problem.grads("g"), updates + 1, clock)
    problem.compare()


def test_addresses_that_are_no_multiples_of_16_bytes_are_taken(put: Callable, stream: Callable) -> None:
    problem = Problem(put, stream, [((40,), 1, None)])
    (g,) = problem.grads("g")
    behind = put(np.concatenate([np.zeros(1, np.float32), g]))[1:]
    problem.put = lambda _: behind
    problem.step([g], 3)
    problem.compare()


def test_a_whole_aligned_block_and_any_other_move_the_same_numbers(put: Callable, stream: Callable) -> None:
    """One tensor at place 0, which goes by 16 bytes, and the same one behind a single number, which does not."""
    shape = (1, 2, 2, 8)
    problem = Problem(put, stream, [(shape, 3, "dense"), ((1,), 1, None), (shape, 3, "dense")])
    size = math.prod(shape)
    for buffer in problem.device:
        buffer[size + 1 :] = buffer[:size]
    grads = problem.grads("g")
    grads[2] = grads[0]
    norms, _ = problem.step(grads, 4)
    np.testing.assert_allclose(norms[0], norms[2], rtol=1e-6)
    for buffer in problem.device:
        assert device.to_host(buffer[size + 1 :]).tobytes() == device.to_host(buffer[:size]).tobytes()
    assert device.to_host(problem.low[0]).tobytes() == device.to_host(problem.low[2]).tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30], ids=["NaN", "infinity", "square overflows"])
def test_what_is_not_finite_shows_in_the_norm_of_its_tensor(bad: float, put: Callable, stream: Callable) -> None:
    problem = Problem(put, stream, [((30,), 1, None), ((2, 1, 1, 9), 2, None), ((40,), 1, None)])
    grads = problem.grads("g")
    grads[1][1, -1, 0, 0, -1] = bad
    with np.errstate(over="ignore", invalid="ignore"):
        found, _ = problem.step(grads, 1)
    assert np.isfinite(found).tolist() == [True, False, True]


def test_many_tensors_widen_the_table(put: Callable, stream: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adam, "TENSORS", 2)
    problem = Problem(put, stream, [((k,), 1, None) for k in range(1, 6)])
    with recording() as launches:
        found, wanted = problem.step(problem.grads("g"), 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    problem.compare()
    assert dict(launches[0].constants)["TENSORS"] == 8
    assert len(launches) == 1


def test_only_what_lies_at_multiples_of_16_bytes_is_moved_that_way(put: Callable) -> None:
    """The interpreter moves anything, a GPU does not: the flags in the table."""

    def flag(size: int, parts: int = 1, place: int = 0, low: Any = None, first: int = 0, off: int = 0) -> int:
        ahead, g = put(np.zeros(place)), put(np.zeros(parts * size + first))[first:]
        if parts > 1 or low is not None:
            shape = (1, 1, 1, size) if low is None else (*[1] * (4 - low.ndim), *low.shape)
            g = g.reshape(parts, *shape) if parts > 1 else g.reshape(low.shape)
        buffers = [put(np.zeros(place + size + off))[off:] for _ in range(3)]
        table, _, places = adam._table([], adam._tensors(0, [ahead, g], [None, low], buffers))
        rows = device.to_host(table)[places:].reshape(2, adam.ROW)
        return int(rows[rows[:, 10] == 1, 9][0])

    dense, padded = device.empty((2, 8), BF16), device.from_host(np.zeros((4, 4)), BF16, activation=True)
    assert flag(16) == flag(15) == flag(16, 3) == flag(16, place=8) == flag(16, low=dense) == flag(16, first=4) == 1
    assert flag(15, 3) == flag(16, place=6) == flag(16, low=padded) == flag(16, first=1) == flag(16, off=1) == 0
    assert flag(16, low=device.empty((17,), BF16)[1:]) == 0


def test_two_players_in_one_launch_are_moved_as_by_two(put: Callable, stream: Callable) -> None:
    """To the byte, each by its own settings and its own t, whichever tensors come first."""
    others = [((3, 1, 1, 8), 10, "dense"), ((7,), 1, None)]
    players = [Problem(put, stream), Problem(put, stream, others)]
    alone = [Problem(put, stream), Problem(put, stream, others)]
    settings = [SETTINGS, {"lr": 0.3, "beta1": 0.9, "beta2": 0.9, "eps": 0.02}]
    grads = [[put(g) for g in player.grads("g")] for player in players]
    for steps in ([4, 9], put(np.array([5, 6, 7], np.int64))):
        wanted = []
        for i, player in enumerate(alone):
            named = dict(zip(("out", "out_m", "out_v"), player.device, strict=True))
            t = steps[i] if isinstance(steps, list) else steps
            wanted.append(adam.adam_step(grads[i], **named, step=t, out_low=player.low, **settings[i]))
        together = {name: [player.device[k] for player in players] for k, name in enumerate(("out", "out_m", "out_v"))}
        given: Any = {key: [each[key] for each in settings] for key in SETTINGS}
        with recording() as launches:
            found = adam.adam_steps(grads, step=steps, **together, **given, out_low=[p.low for p in players])
        assert len(launches) == 1
        pairs = [*zip(found, wanted, strict=True)]
        for one, two in zip(players, alone, strict=True):
            pairs += [*zip(one.device, two.device, strict=True)]
            pairs += [pair for pair in zip(one.low, two.low, strict=True) if pair[0] is not None]
        for a, b in pairs:
            assert device.to_host(a).tobytes() == device.to_host(b).tobytes()


@jit
def step_size_alone(header_ptr, y_ptr, t, SETTINGS: tl.constexpr, POWERS: tl.constexpr):
    tl.store(y_ptr, adam_kernels.step_size(header_ptr, t, SETTINGS, POWERS))


@pytest.mark.parametrize("t", [1, 2, 3, 1000, 10**6, 2**31 + 5])
@pytest.mark.parametrize("betas", [(0.5, 0.999), (0.9, 0.99999), (0.0, 0.9)])
def test_the_step_size_has_twelve_digits(betas: tuple[float, float], t: int) -> None:
    beta1, beta2 = betas
    header = adam._header(3e-4, beta1, beta2, 1e-8, t)
    y = device.empty(1, np.float64)
    arguments = {"header_ptr": device.pointer_table([header])[0], "y_ptr": y, "t": Int64(t)}
    launch(step_size_alone, 1, arguments, {"SETTINGS": adam.SETTINGS, "POWERS": adam.POWERS})
    wanted = 3e-4 * math.sqrt(1 - beta2**t) / (1 - beta1**t)
    np.testing.assert_allclose(device.to_host(y), wanted, rtol=1e-12)


def test_work_counts_every_byte_once(put: Callable, stream: Callable) -> None:
    problem = Problem(put, stream, [((2, 1, 1, 8), 3, "dense"), ((5,), 1, None)])
    with recording() as launches:
        problem.step(problem.grads("g"), 1)
    (only,) = launches
    assert only.work.read == 4 * (3 * 16 + 5) + 3 * 4 * 21
    assert only.work.written == 3 * 4 * 21 + 2 * 16


def test_wrong_arguments_are_named(put: Callable) -> None:
    p, m, v = (put(np.zeros(16), out=True) for _ in range(3))
    buffers: dict[str, Any] = {"out": p, "out_m": m, "out_v": v, **SETTINGS}
    g = put(np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"adam_step: 12 gradients for buffers of \(16,\)"):
        adam.adam_step([g[:3]], step=1, **buffers)
    with pytest.raises(ValueError, match="adam_step: step must be at least 1, found 0"):
        adam.adam_step([g], step=0, **buffers)
    with pytest.raises(ValueError, match="adam_step: 2 copies for 1 gradients"):
        adam.adam_step([g], step=1, out_low=[None, None], **buffers)
    with pytest.raises(ValueError, match=r"adam_step: a copy \(4, 4\) float32, wanted \(4, 4\) bfloat16"):
        adam.adam_step([g], step=1, out_low=[g], **buffers)
    with pytest.raises(ValueError, match=r"adam_step: an array \(4, 4\) float64"):
        adam.adam_step([put(np.zeros((4, 4)), np.float64)], step=1, **buffers)
    with pytest.raises(ValueError, match=r"moving_average: x has shape \(1,\), wanted \(16,\)"):
        adam.moving_average(put(np.ones(1)), out=p, rate=0.1)


@pytest.mark.parametrize("first", [0, 1], ids=["aligned", "not aligned"])
@pytest.mark.parametrize("size", [5, 16, 50])
def test_moving_average(size: int, first: int, put: Callable, stream: Callable) -> None:
    here = slice(first, first + size)  # and three numbers behind
    x, average = (stream(name).standard_normal(size + first + 3).astype(np.float32) for name in ("x", "average"))
    out = put(average, out=True)
    adam.moving_average(put(x)[here], out=out[here], rate=0.05)
    wanted = average.copy()
    cpu.moving_average(x[here], out=wanted[here], rate=0.05)
    np.testing.assert_allclose(device.to_host(out), wanted, rtol=1e-6, atol=1e-7)
