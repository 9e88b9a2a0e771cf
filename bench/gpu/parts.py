"""The parts of `python -m bench.gpu` in their order: right first, then fast. The budgets add up to less than eight
minutes."""

from bench.gpu.part import Part

PARTS = {
    part.name: part
    for part in (
        Part("compile", "kernels compiled ahead", "compiling", 75),
        Part("parity", "a) parity with the CPU twins", "parity", 90),
        Part("sanitizer", "a) compute-sanitizer", "sanitizer", 35),
        Part("ceilings", "b) what this machine reaches", "ceilings", 20),
        Part("convs", "c) convolutions against cuDNN", "convs", 60),
        Part("bandwidth", "c) memory-bound kernels against the copy", "bandwidth", 20),
        Part("steps", "d) the whole step against PyTorch", "steps", 100),
        Part("training", "e) real training", "training", 80),
        Part("resume", "f) exact resume", "resume", 40),
    )
}
TOTAL = 475.0
