"""`python -m lightning_nas.cli`: the same as `lightning-nas`."""

import sys

from lightning_nas.cli import main

if __name__ == "__main__":
    sys.exit(main())
