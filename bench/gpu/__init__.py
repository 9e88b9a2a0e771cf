"""Everything that there is to measure on a machine with an NVIDIA GPU, in one command: `python -m bench.gpu`.

`__main__` reads the command line and prints; `parts` lists the parts in their order; `runner` runs each of them in a
process of its own (`worker`), so that a kernel that kills the device takes one figure along and no more.
"""
