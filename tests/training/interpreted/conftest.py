"""These tests run where Triton's interpreter was chosen before Triton was imported: see `tests/test_interpreted.py`."""

import os

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]
