"""A small workspace with pixels behind the pages, and jobs that are only noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from app.pages.context import PageContext
from app.settings import Settings
from engine.catalog.workspace import Workspace
from engine.stages.ingest import IngestConfig, ingest


@pytest.fixture
def context(tmp_path: Path, write_picture: Callable[..., Path], fake: Callable[[str], ModuleType]) -> Iterator[PageContext]:
    """Two scenes of 64 px in tiles of 32, in blocks of train, dev and test; no classes yet."""
    for seed in range(2):
        write_picture(tmp_path / "imagery" / f"{seed}.png", width=160, height=160, seed=seed)
    with Workspace.create(tmp_path / "workspace") as workspace:
        ingest(workspace, tmp_path / "imagery", IngestConfig(tile=32, overlap=0))
        yield PageContext(workspace, fake("jobs").FakeJobs(), Settings())
