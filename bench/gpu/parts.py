"""The parts of `python -m bench.gpu` in their order: right first, then fast. The budgets add up to less than eight
minutes."""

from bench.gpu.part import Part

PARTS = {
    part.name: part
    for part in (
        Part("compile", "kernels compiled ahead", "compiling", 55),
        Part("parity", "a) parity with the CPU twins", "parity", 75),
        Part("sanitizer", "a) compute-sanitizer", "sanitizer", 30),
        Part("ceilings", "b) what this machine reaches", "ceilings", 15, timed=True),
        Part("convs", "c) convolutions against cuDNN", "convs", 55, timed=True),
        Part("bandwidth", "c) memory-bound kernels against the copy", "bandwidth", 20, timed=True),
        Part("steps", "d) the whole step against PyTorch", "steps", 105, timed=True),
        Part("training", "e) real training", "training", 85, timed=True),
        Part("resume", "f) exact resume", "resume", 30),
    )
}
TOTAL = sum(part.budget for part in PARTS.values())


def seconds_for(part: Part, later: list[Part], left: float, scale: float) -> float:
    """What a part may take: its own budget, and whatever the parts before it have left over."""
    reserved = scale * sum(other.budget for other in later)
    return min(left, max(scale * part.budget, left - reserved))
