"""``python -m pykcov`` is the command ``pykcov``."""

import sys

from pykcov.cli import main

if __name__ == "__main__":
    sys.exit(main())
