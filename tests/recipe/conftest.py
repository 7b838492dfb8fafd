"""Makes the recipe importable: it lies beside the product, not in it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "weights"))
