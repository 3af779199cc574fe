"""The model server beside other ways to serve the same model, in one run."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What runs a Ray node and an nginx is shared with the demo and the tests; it is not installed.
sys.path[:0] = [str(ROOT / folder) for folder in ("examples/demo", "tools", "serving")]
