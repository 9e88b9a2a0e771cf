"""Finds the tiles of the convolutions' products by measuring: `python -m bench.tune` on a machine with an NVIDIA GPU.

`search` says what is tried and in which order, `model` predicts, `written` turns winners into the literal table of
`kernels/tiles.py`, `__main__` is the command.
"""
