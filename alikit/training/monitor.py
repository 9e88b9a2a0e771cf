"""What a run shows every `sample_every` steps: pictures, and numbers on held-out data for metrics.jsonl.

Everything runs in evaluation mode (population statistics, no dropout; method 3.3), with the averaged weights where
there are any (`average.py`), on the same held-out images and from the same prior codes, so that pictures compare.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from alikit.backend import to_numpy
from alikit.metrics.latent import latent_health
from alikit.metrics.mixture import mixture_coverage
from alikit.metrics.reconstruction import reconstruction_error, reconstruction_ratio
from alikit.models import Generative
from alikit.nn import Pass
from alikit.training import images, plots
from alikit.training.average import for_looking, given, place
from alikit.training.games import Batch
from alikit.training.labels import Exam
from alikit.training.runs import picture_path
from alikit.training.step import Trainer

SAMPLES = 64
PAIRS = 32
HELD_OUT = 500
POINTS = 2500


class Monitor:
    """Looks at a trainer's model.

    held_out   (N, ...) float32 images in [0, 1] that training does not see, at least two; a Batch with conditions
    run        folder for the pictures
    wanted     (SAMPLES, 1, 1, A) the samples' conditions, of a conditional model
    """

    def __init__(
        self,
        trainer: Trainer,
        held_out: np.ndarray | Batch,
        run: Path,
        means: np.ndarray | None,
        std: float,
        wanted: np.ndarray | None = None,
    ):
        batch = held_out if isinstance(held_out, Batch) else Batch(held_out)
        self.trainer, self.run, self.wanted = trainer, run, wanted
        self.x, self.y, self.means, self.std = batch.x, batch.y, means, std
        self.how = Pass(training=False, seed=trainer.seed, precision=trainer.precision)
        #: what measures the test error of a run with labels
        self.exam: Exam | None = None

    def look(self, step: int, last: bool = False) -> dict[str, float]:
        """Draws the pictures of this step and returns its numbers; last: whether it is the run's last step."""
        with for_looking(self.trainer):
            if self.means is not None:
                return self._look_at_points(step, self.means)
            found = self._look_at_images(step)
            if self.exam is not None:
                found |= self.exam.look(self.trainer.model, self.how, self.run, step, last)
            return found

    def _look_at_images(self, step: int) -> dict[str, float]:
        model = self.trainer.model
        samples = decode(model, _on_host(model.prior(SAMPLES, self.how).data), self.how, y=self.wanted)
        images.save_png(picture_path(self.run, "samples", step), images.sample_grid(samples))
        if not model.encodes:
            return {"sample_mean": float(samples.mean()), "sample_std": float(samples.std())}
        mu, sigma, z, reconstructions = encode_decode(model, self.x, self.how, y=self.y)
        pairs = images.reconstruction_grid(self.x[:PAIRS], reconstructions[:PAIRS])
        images.save_png(picture_path(self.run, "reconstructions", step), pairs)
        images.save_png(picture_path(self.run, "latents", step), plots.latent_health(mu, sigma, z))
        return self._numbers(mu, sigma, z, reconstructions)

    def _look_at_points(self, step: int, means: np.ndarray) -> dict[str, float]:
        model = self.trainer.model
        prior = _on_host(model.prior(4 * POINTS, self.how).data)
        generated = decode(model, prior, self.how, chunk=POINTS).reshape(-1, 2)
        coverage = {f"coverage_{k}": v for k, v in mixture_coverage(generated, means, self.std).items()}
        if not model.encodes:
            images.save_png(picture_path(self.run, "samples", step), plots.points_figure(generated[:POINTS]))
            return coverage
        mu, sigma, z, reconstructions = encode_decode(model, self.x, self.how)
        points, rebuilt = self.x.reshape(-1, 2), reconstructions.reshape(-1, 2)
        modes = np.argmin(np.square(points[:, None] - means).sum(axis=2), axis=1)
        picture = plots.mixture_figure(
            points[:POINTS],
            modes[:POINTS],
            z[:POINTS],
            rebuilt[:POINTS],
            prior.reshape(-1, 2)[:POINTS],
            generated[:POINTS],
        )
        images.save_png(picture_path(self.run, "samples", step), picture)
        images.save_png(picture_path(self.run, "latents", step), plots.latent_health(mu, sigma, z))
        return self._numbers(mu, sigma, z, reconstructions) | coverage

    def _numbers(
        self, mu: np.ndarray | None, sigma: np.ndarray | None, z: np.ndarray, reconstructions: np.ndarray
    ) -> dict[str, float]:
        health = {f"latent_{k}": v for k, v in latent_health(mu, sigma, z).items()}
        return {
            "reconstruction_error": reconstruction_error(self.x, reconstructions),
            "reconstruction_ratio": reconstruction_ratio(self.x, reconstructions),
        } | health


def encode_decode(
    model: Generative, x: np.ndarray, how: Pass, chunk: int = 100, y: np.ndarray | None = None
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray, np.ndarray]:
    """Codes and reconstructions of x: (N, H, W, C), decode(sampled z) as in the paper (method 1.4), chunk by chunk.

    y   (N, 1, 1, A) their conditions, of a conditional model

    Returns mu and sigma (N, nz), None for an encoder that is not Gaussian; z (N, nz); reconstructions like x.
    """
    rows = []
    for start in range(0, len(x), chunk):
        part = place(model, x[start : start + chunk])
        here = how._replace(step=start)  # every chunk draws noise of its own
        extra = given(model, y, start, start + chunk)
        z = model.encode(part, here, *extra)
        codes = model.code_parameters(part, here, *extra)
        rebuilt = model.decode(z, here, *extra)
        rows.append((codes and tuple(map(_on_host, codes)), _on_host(z.data), _on_host(rebuilt.data)))
    flat = (len(x), model.spec.nz)
    codes_flat: list[np.ndarray | None] = [None, None]
    if all(codes for codes, _, _ in rows):
        codes_flat = [np.concatenate([c[k] for c, _, _ in rows if c]).reshape(flat) for k in (0, 1)]
    z_all = np.concatenate([z for _, z, _ in rows]).reshape(flat)
    return codes_flat[0], codes_flat[1], z_all, np.concatenate([r for _, _, r in rows])


def decode(model: Generative, z: np.ndarray, how: Pass, chunk: int = 100, y: np.ndarray | None = None) -> np.ndarray:
    """x~ of codes z: (N, nz) or (N, 1, 1, nz) -> (N, H, W, C), as `how` says; both in host memory. y: as above."""
    z = z.reshape(-1, 1, 1, model.spec.nz)
    parts = [
        model.decode(place(model, z[a : a + chunk]), how, *given(model, y, a, a + chunk)).data
        for a in range(0, len(z), chunk)
    ]
    return np.concatenate([_on_host(part) for part in parts])


def _on_host(x: Any) -> np.ndarray:
    """In host memory and in a dtype of NumPy's own."""
    host = to_numpy(x)
    return host if host.dtype.kind == "f" else host.astype(np.float32)
