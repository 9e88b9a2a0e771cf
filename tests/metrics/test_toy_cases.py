"""Five generators of a mixture whose faults are known: which score sees which.

10 modes in 64 dimensions, 1,000 points of each set. Real against real gives the floors; every case says what has to
move away from them, and what does not and must not be trusted for it.
"""

from typing import NamedTuple

import numpy as np
import pytest

from alikit.metrics.frechet import frechet_distance
from alikit.metrics.kernel import kernel_distance
from alikit.metrics.neighbours import precision_recall, two_sample

COUNT, DIMENSIONS, MODES = 1000, 64, 10


class Scores(NamedTuple):
    """All against held-out points, but for accuracy_train: the two-sample accuracy against the training points."""

    frechet: float
    kernel: float
    accuracy: float
    accuracy_train: float
    precision: float
    recall: float
    density: float
    coverage: float


class World:
    """The mixture, with points that were trained on and held-out ones."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(8)
        self.means = self.rng.normal(size=(MODES, DIMENSIONS))
        self.spread = 1.0  # features are standardised by the training points' deviation
        self.spread = self.draw().std(axis=0)
        self.train, self.held_out = self.draw(), self.draw()

    def draw(self, modes: int = MODES, scale: float = 1.0) -> np.ndarray:
        noise = scale * self.rng.normal(size=(COUNT, DIMENSIONS))
        return (self.means[self.rng.integers(0, modes, COUNT)] + noise) / self.spread

    def judge(self, fake: np.ndarray) -> Scores:
        return Scores(
            frechet_distance(self.held_out, fake),
            kernel_distance(self.held_out, fake),
            two_sample(self.held_out, fake)["accuracy"],
            two_sample(self.train, fake)["accuracy"],
            **precision_recall(self.held_out, fake),
        )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def floor(world: World) -> Scores:
    return world.judge(world.draw())


def test_fresh_points_lie_on_every_floor(world: World, floor: Scores) -> None:
    fresh = world.judge(world.draw())
    assert fresh.frechet == pytest.approx(floor.frechet, rel=0.3)
    assert abs(fresh.kernel) < 0.01
    assert fresh.accuracy == pytest.approx(0.5, abs=0.04)
    assert fresh.accuracy_train == pytest.approx(0.5, abs=0.04)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(fresh, name) == pytest.approx(getattr(floor, name), abs=0.06)
    assert 0.6 < fresh.precision < 0.95  # for sets that are alike it is not 1: hence floors
    assert fresh.frechet > 1  # nor is the distance 0: that is its bias


def test_dropped_modes_cost_distance_recall_and_coverage_but_no_precision(world: World, floor: Scores) -> None:
    dropped = world.judge(world.draw(modes=7))
    assert dropped.frechet > 3 * floor.frechet
    assert dropped.kernel > 0.03
    assert dropped.recall < floor.recall - 0.15
    assert dropped.coverage < floor.coverage - 0.2
    assert dropped.precision > floor.precision - 0.05


def test_only_the_two_sample_test_against_training_points_sees_copies(world: World, floor: Scores) -> None:
    copies = world.judge(world.train[::-1] + 1e-3 * world.rng.normal(size=world.train.shape))
    assert copies.accuracy_train == 0
    assert copies.accuracy == pytest.approx(0.5, abs=0.04)
    assert copies.frechet < 1.3 * floor.frechet
    assert copies.precision > floor.precision - 0.05
    assert copies.recall > floor.recall - 0.08
    assert copies.coverage > floor.coverage - 0.12


def test_ten_per_cent_too_wide_costs_precision_and_density_first(world: World, floor: Scores) -> None:
    wide = world.judge(world.draw(scale=1.1))
    assert wide.frechet < 1.8 * floor.frechet
    assert wide.precision < floor.precision - 0.2
    assert wide.density < 0.5 * floor.density
    assert wide.coverage < floor.coverage - 0.1
    assert wide.recall > floor.recall
    halves = two_sample(world.held_out, world.draw(scale=1.1))
    assert halves["accuracy"] == pytest.approx(0.5, abs=0.06)  # the mean of both halves hides what they say
    assert halves["accuracy_fake"] < 0.35 < 0.65 < halves["accuracy_real"]


def test_one_point_repeated_has_no_recall(world: World, floor: Scores) -> None:
    one = world.judge(np.repeat(world.train[:1], COUNT, axis=0))
    assert one.frechet > 30 * floor.frechet
    assert one.kernel > 1
    assert one.accuracy > 0.99
    assert one.recall == 0
    assert one.coverage < 0.03
