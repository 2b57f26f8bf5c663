"""`python -m farebox` is the command `farebox`."""

from __future__ import annotations

import sys

from farebox.cli import main

if __name__ == "__main__":
    sys.exit(main())
