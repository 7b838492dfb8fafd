"""Makes `tests.engine.oracle` importable however pytest is started: there is no package at the top of the tree."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
