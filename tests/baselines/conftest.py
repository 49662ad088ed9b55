"""The baselines import each other by their file names, as they are no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
