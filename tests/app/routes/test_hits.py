"""Pictures of look-alikes: of the box as it lies now, in this workspace."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.pages.tile_facts import about
from app.routes import hits as route
from app.tile_pictures import TilePictures
from engine.boxes import Boxes
from engine.catalog.models import add_model
from engine.catalog.reviews import tile_state
from engine.catalog.schema import RoundTile, SearchHit
from engine.catalog.searches import FoundHit, add_search, hits_on
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.stages.ingest import IngestConfig, ingest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client


@pytest.fixture
def workspace(tmp_path, write_picture):
    """One look-alike, number 1, on the first tile."""
    write_picture(tmp_path / "imagery" / "a.png", width=64, height=64, seed=0)
    with Workspace.create(tmp_path / "workspace") as made:
        ingest(made, tmp_path / "imagery", IngestConfig(tile=32, overlap=0))
        with made.session() as session:
            model = add_model(session, name="p", stage="pretrain", config={}, data_hash="0" * 64)
            first = tiles(session)[0].id
            found = [FoundHit(first, (4.0, 4.0, 12.0, 12.0), 0.9)]
            query = {"fingerprint": "f", "tile_id": first, "box_tile": (1.0, 1.0, 9.0, 9.0), "model_id": model.id, "config": {}}
            add_search(session, **query, found=found)
        yield made


@pytest.fixture
def client(workspace):
    from starlette.testclient import TestClient

    pictures = TilePictures(workspace)
    app = FastAPI()
    app.include_router(route.router(workspace, pictures))
    yield TestClient(app)
    pictures.close()


def test_picture_is_kept_by_the_browser_and_asked_about_each_time(client):
    first = client.get("/hits/1.png?width=64")
    assert (first.status_code, first.headers["cache-control"]) == (200, "private, no-cache")
    again = client.get("/hits/1.png?width=64", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/hits/1.png?width=65").headers["etag"] != first.headers["etag"]


def test_box_that_was_moved_is_another_picture(client, workspace):
    before = client.get("/hits/1.png").headers["etag"]
    with workspace.session() as session:
        session.scalars(select(SearchHit)).one().x2_tile = 20.0
    after = client.get("/hits/1.png", headers={"if-none-match": before})
    assert (after.status_code, after.headers["etag"] == before) == (200, False)


def test_look_alike_that_went_to_another_tile_is_not_shown_as_of_this_one(client, workspace):
    with workspace.session(write=False) as session:
        first, second = (tile.id for tile in tiles(session)[:2])
        there = hits_on(session, first, [1, 9])
        said = about(tile_state(session, first), Boxes.empty(scored=True), RoundTile(reasons={}), there)
        assert hits_on(session, first + 1, [1]) == []
    address = f"/hits/1.png?width=200&tile={first}"
    assert address.replace("&", "&amp;") in said
    assert client.get(address).status_code == 200
    with workspace.session() as session:
        session.scalars(select(SearchHit)).one().tile_id = second
    assert client.get(address).status_code == 404
    assert client.get("/hits/1.png").status_code == 200
