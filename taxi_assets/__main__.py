"""`python -m taxi_assets`: what `make` calls. See `cli`."""

import sys

from taxi_assets.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
