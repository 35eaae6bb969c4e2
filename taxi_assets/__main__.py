"""`python -m taxi_assets`: the same as the command `taxi-assets`."""

import sys

from taxi_assets.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
