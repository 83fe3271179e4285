"""``python -m ptactors``."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while modules are loaded Ctrl-C just ends the process; main() puts it back
from ptactors.cli.main import main

if __name__ == "__main__":  # worker processes import this module under another name
    main()
