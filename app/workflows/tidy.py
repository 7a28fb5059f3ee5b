"""What is removed after a job: originals that came in through the pages and are not needed beside what was taken in of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.catalog.workspace import Workspace

__all__ = ["remove_upload"]


def remove_upload(workspace: Workspace, file: Path) -> bool:
    """Remove ``file`` with its folder where it is an upload of the workspace; returns whether it was one and was there.

    An upload is a file in a folder of its own below ``uploads``. What cannot be removed stays: what was taken in of it is safe.
    """
    file = file.resolve()
    if not file.is_file() or file.parent.parent != workspace.uploads.resolve():
        return False
    shutil.rmtree(file.parent, ignore_errors=True)
    return True
