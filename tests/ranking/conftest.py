"""The tests of this room share a small click log: ``from tiny_logs import ...``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
