"""Runs the command line: ``python -m smidgen``."""

import sys

from smidgen.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
