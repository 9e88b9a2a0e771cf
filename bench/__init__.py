"""Measurements of alikit beside PyTorch on the same machine, in the same run: `python -m bench`. See README.md."""
