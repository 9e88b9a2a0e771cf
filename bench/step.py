"""Question: how long does one training step take? The exact step of spec 1.6, the batch fetched from uint8 included.

alikit runs what training runs: the preset's Trainer on batches of a Feed. PyTorch runs `torch_peer.Peer`. Before
timing, both take one step from the same parameters on the same images, noise and dropout masks, and every loss,
gradient, update and statistic is compared. (The masks are alikit's own, redrawn from their counters: the step is
checked with dropout on.)

What the numbers do not show: the time to draw samples, to save checkpoints, to log; steps at other batch sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.case import Arrays, Case, Options, Workload

IMAGES = 1000  # in the prepared array
BATCH, QUICK_BATCH = 100, 6
CHECKED_STEP = 3  # its number selects the random numbers of the check

#: alikit's networks under the peer's names
NETWORKS = {
    "encoder": "encoder",
    "decoder": "decoder",
    "discriminator.x": "image_tower",
    "discriminator.z": "code_tower",
    "discriminator.xz": "head",
}


def prepared(model: str) -> Any:
    """What stands for the data set: (N, 32, 32, 3) uint8 images, or (N, 2) float32 points."""
    import numpy as np

    rng = np.random.default_rng(0)
    if model == "mixture":
        return (4 * rng.standard_normal((IMAGES, 2))).astype(np.float32)
    return rng.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)


class AlikitStep:
    """alikit's side: a Trainer, a Feed, and one step as the check wants it."""

    def __init__(self, model: str, options: Options):
        from alikit.data import Dataset
        from alikit.training.config import PRESETS
        from alikit.training.feed import Feed
        from alikit.training.state import build_trainer

        self.config, self.batch = PRESETS[model], QUICK_BATCH if options.quick else BATCH
        dataset = Dataset(name=model, split="train", source="bench", checksum="", images=prepared(model))
        self.feed = Feed(dataset, self.batch, seed=0)
        self.new_trainer: Callable[[], Any] = partial(build_trainer, self.config)

    def workload(self) -> Workload:
        trainer, numbers = self.new_trainer(), itertools.count()

        def step() -> None:
            number = next(numbers)
            trainer.step(self.feed.batch(number), number)

        return Workload({"step": step}, answer=self.answer, probe=self.probe)

    def probe(self) -> dict[str, Any]:
        """Parameters away from their initial values, the batch's rows, and all random numbers of step CHECKED_STEP."""
        return probe(self.new_trainer().model, self.feed.order.batch_indices(CHECKED_STEP))

    def answer(self, probe: Arrays) -> dict[str, Any]:
        from alikit.training.feed import as_input

        trainer = self.new_trainer()
        return take_step(trainer, as_input(self.feed.dataset, probe["rows"]), probe)


def probe(model: Any, rows: Any) -> dict[str, Any]:
    """Inputs of one checked step for an alikit model on the images `rows`."""
    import numpy as np

    from alikit.kernels.cpu.activation import dropout
    from alikit.kernels.cpu.sampling import normal
    from alikit.nn import Convolution, Pass
    from alikit.ops import Dropout

    rng, how, m = np.random.default_rng(1), Pass(True, 0, CHECKED_STEP), len(rows)
    found: dict[str, Any] = {"rows": rows}
    for name, parameter in model.named_parameters():
        spread = 0.2 if parameter.ndim == 1 else 0.0
        scale = 4.0 if name.endswith("weight") else 1.0  # logits of the order of one
        found[f"parameter/{peer_name(name)}"] = parameter.data * scale + rng.normal(0, spread, parameter.shape)
    for stream in ("prior", "eps"):
        found[stream] = normal((m, 1, 1, model.spec.nz), how.stream(stream), model.dtype)
    tables = layers(model.spec)
    for module in model.modules():
        if isinstance(module, Convolution) and module.rate:
            network, number = module.name.rsplit(".", 1)
            _, shape = tables[network][int(number) - 1]
            mask = dropout(np.ones((2 * m, *shape), model.dtype), Dropout(module.rate, how.stream(module.name)))
            found[f"mask/{NETWORKS[network]}.{int(number) - 1}"] = mask
    return {k: v.astype(model.dtype) if v.dtype.kind == "f" else v for k, v in found.items()}


def layers(spec: Any) -> dict[str, list[tuple[Any, tuple[int, int, int]]]]:
    """For each of alikit's networks its table's rows, each with the (H, W, C) of the layer's input."""

    def along(table: Any, image: tuple[int, int, int]) -> list[tuple[Any, tuple[int, int, int]]]:
        found = []
        for row in table:
            found.append((row, image))
            image = (row.size, row.size, row.maps // spec.activation(row).pieces)
        return found

    def channels(table: Any, otherwise: int) -> int:
        return table[-1].maps // spec.activation(table[-1]).pieces if table else otherwise

    h, w, c = spec.image
    code, width = (1, 1, spec.nz), channels(spec.disc_x, c) + channels(spec.disc_z, spec.nz)
    return {
        "encoder": along(spec.encoder, (h, w, c + spec.noise)),
        "decoder": along(spec.decoder, code),
        "discriminator.x": along(spec.disc_x, spec.image),
        "discriminator.z": along(spec.disc_z, code),
        "discriminator.xz": along(spec.disc_xz, (1, 1, width)),
    }


def peer_name(name: str) -> str:
    """`discriminator.x.layers.0.conv.weight` -> `image_tower.0.weight`."""
    network, _, rest = name.partition(".layers.")
    number, *_, kind = rest.split(".")
    return f"{NETWORKS[network]}.{number}.{kind}"


def take_step(trainer: Any, x: Any, probe: Arrays) -> dict[str, Any]:
    """One step of alikit's Trainer from the probe's parameters, as arrays named like those of `answer_torch`."""
    import numpy as np

    named = {peer_name(name): p for name, p in trainer.model.named_parameters()}
    for name, parameter in named.items():
        parameter.data[...] = probe[f"parameter/{name}"]
    result = trainer.step(x, CHECKED_STEP)
    found: dict[str, Any] = {"batch": x, "loss/d": np.array(result.loss_d), "loss/g": np.array(result.loss_g)}
    for adam in (trainer.adam_d, trainer.adam_g):
        for name, moment in adam.state().items():  # after one step m is (1 - beta1) times the gradient
            if name.startswith("m/"):
                found[f"gradient/{peer_name(name[2:])}"] = moment / (1 - adam.settings.beta1)
    for name, parameter in named.items():
        found[f"update/{name}"] = parameter.data - probe[f"parameter/{name}"]
    for name, buffer in trainer.model.named_buffers():
        found[f"statistics/{peer_name(name)}"] = buffer
    return found


def torch_step(model: str, options: Options) -> Workload:
    """PyTorch's side."""
    import torch

    from bench.torch_peer import Peer

    peer, images = Peer(model), torch.from_numpy(prepared(model))
    batch = QUICK_BATCH if options.quick else BATCH
    batches = (rows for _ in itertools.count() for rows in torch.randperm(len(images)).split(batch))

    def step() -> None:
        peer.step(images, next(batches))

    return Workload({"step": step}, answer=partial(answer_torch, model, images))


def answer_torch(model: str, images: Any, probe: Arrays, lr: float = 1e-4, device: str = "cpu") -> dict[str, Any]:
    """One step of the peer from the probe's parameters and random numbers; updates by Adam as spec 3.1 has it.

    images  on that device already
    """
    import torch

    from bench.torch_peer import Peer, channels_first, channels_last

    given = {name: torch.from_numpy(array).to(device) for name, array in probe.items()}
    peer = Peer(model, dtype=given["prior"].dtype, device=device)
    peer.load({name[10:]: value for name, value in given.items() if name.startswith("parameter/")})
    masks = {name[5:]: channels_first(value) for name, value in given.items() if name.startswith("mask/")}
    z, eps = (channels_first(given[name]) if peer.images else given[name].flatten(1) for name in ("prior", "eps"))
    x = peer.batch(images, given["rows"]).to(peer.dtype)
    losses = peer.losses(x, z, eps, masks)
    found = {"batch": channels_last(x), "loss/d": losses[0].detach(), "loss/g": losses[1].detach()}
    for parameters, grads in zip(peer.players, peer.gradients(losses), strict=True):
        for name, g in zip(parameters, grads, strict=True):
            found[f"gradient/{name}"] = channels_last(g)
            found[f"update/{name}"] = channels_last(-lr * g / (g.abs() + 1e-8 / (1 - 0.999) ** 0.5))
    found |= _statistics(peer, len(x))
    shapes = {name: probe[f"parameter/{name.split('/')[1]}"].shape for name in found if name[0] in "gu"}
    arrays = {name: value.cpu().numpy() for name, value in found.items()}
    arrays["batch"] = arrays["batch"] if peer.images else arrays["batch"][:, None, None, :]
    return {name: a.reshape(shapes[name]) if name in shapes else a for name, a in arrays.items()}


def _statistics(peer: Any, m: int) -> dict[str, Any]:
    """Running mean and deviation as spec 3.3 has them, from PyTorch's after one step: it keeps unbiased variances."""
    from bench.torch_peer import EPS, MOMENTUM

    found = {}
    for network, layers in peer.networks.items():
        for i, layer in enumerate(layers):
            if layer.row.norm:
                count = (2 * m if network == "image_tower" else m) * layer.size**2
                mean, variance = layer.running
                biased = (variance - (1 - MOMENTUM)) / MOMENTUM * (count - 1) / count
                found[f"statistics/{network}.{i}.running_mean"] = mean
                found[f"statistics/{network}.{i}.running_std"] = 1 - MOMENTUM + MOMENTUM * (biased + EPS).sqrt()
    return found


def _case(model: str, title: str, must: float, aim: float) -> Case:
    return Case(
        name=f"{model}-step",
        title=title,
        alikit=lambda options: AlikitStep(model, options).workload(),
        torch=lambda options: torch_step(model, options),
        targets={"step": (must, aim)},
        # an activation within rounding of leaky ReLU's kink may fall on either side of it: sqrt(a few in a million) of
        # a gradient; Adam's first step is the gradient's sign where that is well above eps. In float64 all agree: tests
        tolerance={"": 1e-4, "gradient/": 2e-2, "update/": 2e-1},
    )


SVHN = _case("svhn", "full SVHN step, batch 100", 1.0, 0.7)
MIXTURE = _case("mixture", "full mixture step, batch 100", 0.7, 0.4)
CASES = (SVHN, MIXTURE)
