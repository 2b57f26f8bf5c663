"""`python -m farebox`."""

from __future__ import annotations

import sys

from farebox.cli import main

sys.exit(main())
