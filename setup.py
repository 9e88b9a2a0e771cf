"""Packaging. `kernels/` is a room of its own at the top of the tree and is imported as `alikit.kernels`:
a top-level package called "kernels" exists on PyPI and would collide with ours in a user's environment."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
NUMBA = "numba>=0.61"  # compiles the CPU's convolutions and elementwise passes; without it they are NumPy's

setup(
    name="alikit",
    version="0.1.0",
    description="Adversarially Learned Inference from nothing: autograd, kernels, networks, training",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    package_dir={"alikit": "alikit", "alikit.kernels": "kernels"},
    packages=[
        *find_packages(include=["alikit", "alikit.*"]),
        "alikit.kernels",
        *(f"alikit.{name}" for name in find_packages(include=["kernels.*"])),
    ],
    package_data={"alikit": ["py.typed"], "alikit.kernels": ["shapes.json", "cubins/*.zip"]},
    install_requires=[
        "numpy>=2.0",
        "scipy>=1.11",
        "h5py>=3.10",
        "imageio>=2.31",
        "pillow>=10.1",
        "tqdm>=4.66",
        "pooch>=1.8",
        "platformdirs>=3",  # comes with pooch, as requests does
        "requests>=2.28",
        "threadpoolctl>=3.2",
    ],
    extras_require={
        "cuda12": ["cupy-cuda12x[ctk]>=14", "ml_dtypes>=0.5", 'triton>=3.6; sys_platform == "linux"'],
        "cuda13": ["cupy-cuda13x[ctk]>=14", "ml_dtypes>=0.5", 'triton>=3.6; sys_platform == "linux"'],
        "eval": ["scikit-learn>=1.4", "matplotlib>=3.8"],
        "fast": [NUMBA],
        "bench": ["torch>=2.6", NUMBA],
        "dev": [
            "pytest>=8.4",
            "pytest-xdist>=3.8",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "mypy>=1.11",
            NUMBA,
            "ml_dtypes>=0.5",
            "scikit-learn>=1.4",
            "matplotlib>=3.8",
            'triton>=3.6; sys_platform == "linux"',  # its interpreter and its compiler need no GPU
        ],
    },
)
