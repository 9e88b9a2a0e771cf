"""What each option of a run may be: for the parser of `alikit.train`, and for a config.json edited by hand."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field
from typing import Any

from alikit.console import number, whole

NUMBERS: dict[str, Callable[[str], float]] = {
    "images": whole(2),
    "size": whole(1),
    "data_seed": whole(0),
    "steps": whole(1),
    "epochs": number(0, 1e9, above=True),
    "batch_size": whole(2),
    "lr": number(0, 1, above=True),
    "beta1": number(0, 1, below=True),
    "beta2": number(0, 1, below=True),
    "adam_eps": number(0, 1, above=True),
    "seed": whole(0),
    "ema": number(0, 1, above=True),
    "reconstruction": number(0, 1e6),
    "instance_noise": number(0, 1e3),
    "instance_noise_steps": whole(1),
    "kl_warm_up": whole(0),
    "labels": whole(1),
    "labelled_batch": whole(1),
    "width": number(0, 16, above=True),
    "nz": whole(1, 65536),
    "init_std": number(0, 10, above=True),
    "threads": whole(1, 4096),
    "log_every": whole(1),
    "sample_every": whole(1),
    "checkpoint_every": whole(1),
    "keep": whole(1),
}

CHOICES: dict[str, Sequence[str]] = {"device": ("auto", "cpu", "cuda"), "precision": ("fp32", "tf32", "bf16")}


def misfit(field: Field, value: Any, choices: Mapping[str, Sequence[str]]) -> str | None:
    """What is wrong with a value of a configuration's field as JSON gave it; None where nothing is.

    choices   what may stand in fields that are no numbers, by name
    """
    if type(value) is type(field.default) and value == field.default:  # what no option can say: None, 0 for any rhythm
        return None
    text, name = json.dumps(value), field.name
    if name in NUMBERS:
        try:
            NUMBERS[name](text)
        except argparse.ArgumentTypeError as error:
            return str(error)
        return None
    if name in choices:
        return None if value in choices[name] else f"one of {', '.join(choices[name])} is wanted, not {text}"
    if field.type == "bool":
        return None if isinstance(value, bool) else f"true or false is wanted, not {text}"
    return None if isinstance(value, str) else f"a text is wanted, not {text}"
