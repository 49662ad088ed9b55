"""``python -m chessrnn``: the same as the command ``chessrnn``."""

import sys

from chessrnn.scripts.main import main

if __name__ == "__main__":
    sys.exit(main())
