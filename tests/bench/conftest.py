"""bench is no package that anyone installs: the tests import the checkout's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
