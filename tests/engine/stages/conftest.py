"""A Label Studio, its annotators, and a workspace whose tiles were sent there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import delete

from connectors.label_studio.client import LabelStudioServer
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import Annotation
from engine.catalog.workspace import Workspace
from engine.stages.push import PushConfig, push

Fake = Callable[[str], ModuleType]


@pytest.fixture
def studio(fake: Fake) -> Iterator[Any]:
    with fake("label_studio_server").serving() as serving:
        yield serving


@pytest.fixture
def server(studio: Any, fake: Fake) -> LabelStudioServer:
    return LabelStudioServer(studio.url, fake("label_studio_server").TOKEN, pause=lambda _: None)


@pytest.fixture
def people(studio: Any, fake: Fake) -> Iterator[Any]:
    made = fake("annotators").Annotators(studio.url, fake("label_studio_server").TOKEN)
    yield made
    made.close()


@pytest.fixture
def draw(fake: Fake) -> Callable[..., dict[str, Any]]:
    """A region of a tile of 32 px by 32 px, in pixels."""

    def region(x: float, y: float, width: float, height: float, label: str = "car", **value: Any) -> dict[str, Any]:
        return fake("annotators").rectangle(*(each / 0.32 for each in (x, y, width, height)), label, **value)

    return region


@pytest.fixture
def pushed(tmp_path: Path, fake: Fake, server: LabelStudioServer) -> Iterator[Workspace]:
    """A round of six train tiles without known boxes, pushed: task n is of its n-th tile."""
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        with made.session() as session:
            session.execute(delete(Annotation).where(Annotation.state == "withheld"))
            chosen = [ChosenTile(tile.id, 1, 30, {}) for tile in fake("labelled").records(made, "train")[: fake("pulled").TILES]]
            add_round(session, budget_seconds=600, strategy="random", seed=0, chosen=chosen)
        push(made, server, lambda tile: f"http://127.0.0.1:7860/{tile}", PushConfig())
        yield made


@pytest.fixture
def pulled(fake: Fake) -> ModuleType:
    """What a workspace says of the answers that came in."""
    return fake("pulled")
