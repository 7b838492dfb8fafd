"""Makes the benchmarks importable: each is a command of its own, not part of the product."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
