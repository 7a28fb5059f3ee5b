"""Whether a service is well, as its container's health check: ``health.py app`` or ``health.py worker``. Exit code 0 where it is."""

from __future__ import annotations

import os
import platform
import sys
import time
import urllib.request
from pathlib import Path

SILENT_SECONDS = 30.0
"""A worker gives a sign of life every second."""


def app_is_well(address: str = "http://127.0.0.1:7860") -> bool:
    """Whether the app answers."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:  # noqa: S310 - an address of this container
            return bool(answer.status == 200)
    except OSError:
        return False


def worker_is_well(root: Path) -> bool:
    """Whether the worker of the workspace at ``root`` runs on this host and gave a sign of life lately."""
    from engine.catalog.schema import WorkerHeartbeat
    from engine.catalog.workspace import Workspace

    with Workspace.open(root) as workspace, workspace.session(write=False) as session:
        beat = session.get(WorkerHeartbeat, 1)
        return beat is not None and beat.host == platform.node() and time.time() - beat.at < SILENT_SECONDS


if __name__ == "__main__":
    well = worker_is_well(Path(os.environ["TILEHAWK_WORKSPACE"])) if sys.argv[1] == "worker" else app_is_well(*sys.argv[2:])
    sys.exit(0 if well else 1)
