"""Progress lines of the training commands."""

from __future__ import annotations

import sys
import time

__all__ = ("log",)


def log(line: str) -> None:
    """One line with the time on standard error, flushed, so that a run in the background can be watched."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {line}\n")
    sys.stderr.flush()
