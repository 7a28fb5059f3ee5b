"""Faults of our own: the traceback goes to a file, one line goes to the user."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from engine.errors import TilehawkError
from engine.files import write_text

__all__ = ["unexpected"]


def unexpected(folder: Path, *, prefix: str = "") -> TilehawkError:
    """What to say of the exception being handled; its traceback is written to a new file in ``folder``."""
    kind, value, _ = sys.exc_info()
    log = folder / f"{prefix}error-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    write_text(log, traceback.format_exc())
    first_line = str(value).splitlines()[0] if str(value) else ""
    return TilehawkError(
        f"unexpected {kind.__name__ if kind else 'error'}: {first_line}", remedy=f"This is a fault in Tilehawk; its traceback is in {log}"
    )
