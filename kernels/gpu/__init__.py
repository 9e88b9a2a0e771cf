"""Triton kernels: the twins of `cpu/`, file by file, name by name. They are launched through `kernels/launch.py`."""
