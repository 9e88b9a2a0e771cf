"""The kernels in NumPy: the same names and signatures as every other twin, written for speed."""
