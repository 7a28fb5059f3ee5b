from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.catalog.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "workspace") as made:
        yield made
