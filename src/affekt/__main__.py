"""`python -m affekt` is `affekt`."""

from __future__ import annotations

import sys

from affekt.cli import main

if __name__ == "__main__":
    sys.exit(main())
