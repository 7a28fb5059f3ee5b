from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.catalog.workspace import Workspace


@pytest.fixture
def sqlite_workspace(tmp_path: Path) -> Iterator[Workspace]:
    """For what is true of the files alone."""
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    if request.param == "postgresql":
        request.getfixturevalue("on_postgresql")
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


@pytest.fixture(scope="session")
def postgres(fake: Callable[[str], ModuleType]) -> Iterator[Any]:
    """A real server; ``fakes/postgres_server.py``."""
    server = fake("postgres_server")
    programs = server.programs()
    if programs is None:
        pytest.skip("no PostgreSQL server programs on this machine (on Debian: apt-get install postgresql)")
    with server.running(programs) as running:
        yield running


@pytest.fixture
def on_postgresql(postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workspaces made from here on have their catalog on the server."""
    monkeypatch.setenv("TILEHAWK_DATABASE_URL", postgres.url())
