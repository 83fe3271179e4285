"""``python -m ptactors``."""

from __future__ import annotations

from ptactors.cli.main import main

if __name__ == "__main__":  # worker processes import this module under another name
    main()
