"""The checks behind ``tilehawk doctor``: each one looks at one thing and says what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.doctor import installation, machine, place, servers
from app.doctor.check import Check
from app.doctor.installation import ADVISED_PYTHON, chromium

__all__ = ["ADVISED_PYTHON", "Check", "chromium", "examine"]


def examine(workspace: Path) -> list[Check]:
    """Run all checks; one that breaks is a failed check, never the end of the others."""
    checks: list[Callable[[], Check]] = [
        installation.python,
        installation.packages,
        installation.torch_pair,
        installation.onnx_runtime,
        installation.weights,
        machine.device,
        machine.threads,
        lambda: machine.disk(workspace),
        lambda: place.database(workspace),
        lambda: place.workspace(workspace),
        lambda: place.locks(workspace),
        lambda: place.secrets(workspace),
        lambda: place.accounts(workspace),
        lambda: place.jobs(workspace),
        lambda: servers.label_studio(workspace),
        installation.browser,
    ]
    return [check() for check in checks]
