"""Pictures of tiles and scenes."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import select

from app.routes import tiles as route
from app.tile_pictures import TilePictures
from engine.catalog.schema import Scene
from engine.catalog.tiles import scene_file, tiles
from engine.catalog.workspace import Workspace
from engine.stages.ingest import IngestConfig, ingest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client


def client_of(pictures):
    from starlette.testclient import TestClient

    app = FastAPI()
    app.include_router(route.router(pictures))
    return TestClient(app)


@pytest.fixture
def client(filled_workspace):
    pictures = TilePictures(filled_workspace)
    yield client_of(pictures)
    pictures.close()


@pytest.fixture
def tile(filled_workspace):
    with filled_workspace.session(write=False) as session:
        return tiles(session)[3]


def pixels(answer):
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def source_of(workspace, tile):
    with workspace.session(write=False) as session:
        return np.asarray(Image.open(scene_file(workspace, session.get_one(Scene, tile.scene_id))))


def test_tile_is_the_pixels_of_its_window(client, filled_workspace, tile):
    answer = client.get(f"/tiles/{tile.id}.png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    window = tile.window
    expected = source_of(filled_workspace, tile)[window.y : window.y + window.height, window.x : window.x + window.width]
    assert np.array_equal(pixels(answer), expected)


@pytest.mark.parametrize(("width", "shown"), [(16, 16), (31, 31), (32, 32), (2048, 32)])
def test_thumbnail_is_as_wide_as_asked_and_never_enlarged(client, tile, width, shown):
    answer = client.get(f"/tiles/{tile.id}.png", params={"width": width})
    assert answer.headers["content-type"] == "image/jpeg"
    assert pixels(answer).shape == (shown, shown, 3)


@pytest.mark.parametrize("width", ["15", "2049", "0", "-1", "x", "1e3", ""])
@pytest.mark.parametrize("kind", ["tiles", "scenes"])
def test_width_out_of_bounds_is_refused(client, kind, width):
    assert client.get(f"/{kind}/1.png", params={"width": width}).status_code == 422


@pytest.mark.parametrize("name", ["0", "999999", "-1", "x", quote("../../catalog.sqlite", safe=""), "99999999999999999999999"])
@pytest.mark.parametrize("kind", ["tiles", "scenes"])
def test_anything_but_an_id_of_the_catalog_is_not_found(client, kind, name):
    assert client.get(f"/{kind}/{name}.png").status_code in {404, 422}


def test_scene_is_shown_as_a_whole_within_bounds(client, filled_workspace, tile):
    whole = pixels(client.get(f"/scenes/{tile.scene_id}.png"))
    assert whole.shape == (160, 160, 3)
    small = pixels(client.get(f"/scenes/{tile.scene_id}.png", params={"width": 40}))
    assert small.shape == (40, 40, 3)
    expected = np.asarray(Image.fromarray(source_of(filled_workspace, tile)).resize((40, 40), Image.Resampling.BOX), dtype=float)
    assert np.abs(small.astype(float) - expected).mean() < 6


def test_scene_too_large_to_look_at_is_refused(client, tile, monkeypatch):
    monkeypatch.setattr("app.tile_pictures.LARGEST_OVERVIEW_SOURCE", 160 * 160 - 1)
    assert client.get(f"/scenes/{tile.scene_id}.png").status_code == 404


@pytest.mark.parametrize("path", ["/tiles/{tile}.png", "/tiles/{tile}.png?width=16", "/scenes/{scene}.png"])
def test_picture_is_the_browser_s_own_and_sent_once(client, tile, path):
    address = path.format(tile=tile.id, scene=tile.scene_id)
    first = client.get(address)
    assert first.headers["cache-control"].startswith("private")
    again = client.get(address, headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get(address, headers={"if-none-match": '"other"'}).status_code == 200


def test_no_two_pictures_have_the_same_tag(client, filled_workspace):
    with filled_workspace.session(write=False) as session:
        found = tiles(session)
    addresses = [f"/tiles/{each.id}.png{width}" for each in found for width in ("", "?width=16", "?width=17")]
    addresses += [f"/scenes/{scene}.png?width={width}" for scene in {each.scene_id for each in found} for width in (16, 17)]
    assert len({client.get(address).headers["etag"] for address in addresses}) == len(addresses)


@pytest.fixture
def own(tmp_path, write_picture):
    """A workspace to change: three scenes that lie in a folder."""
    for seed in range(3):
        write_picture(tmp_path / "imagery" / f"{seed}.png", width=64, height=64, seed=seed)
    with Workspace.create(tmp_path / "workspace") as workspace:
        ingest(workspace, tmp_path / "imagery", IngestConfig(tile=32, overlap=0))
        yield workspace


def test_scene_that_is_gone_or_damaged_is_not_found_and_comes_back(own, tmp_path):
    pictures = TilePictures(own)
    client = client_of(pictures)
    with own.session(write=False) as session:
        first = tiles(session)[0]
        path = scene_file(own, session.get_one(Scene, first.scene_id))
    before = client.get(f"/tiles/{first.id}.png").content
    content = path.read_bytes()
    path.unlink()
    assert client.get(f"/tiles/{first.id}.png").status_code == 404
    path.write_bytes(content[: len(content) // 2])
    assert client.get(f"/tiles/{first.id}.png").status_code == 404
    path.write_bytes(content)
    assert client.get(f"/tiles/{first.id}.png").content == before
    pictures.close()


def test_many_readers_share_few_open_scenes(own):
    pictures = TilePictures(own, open_scenes=1)
    with own.session(write=False) as session:
        found = tiles(session)
        expected = {scene.id: np.asarray(Image.open(scene_file(own, scene))) for scene in session.scalars(select(Scene))}

    def right(tile):
        window = tile.window
        shown = np.asarray(Image.open(io.BytesIO(pictures.whole(tile).content)))
        return np.array_equal(shown, expected[tile.scene_id][window.y : window.y + window.height, window.x : window.x + window.width])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, found * 8))
    assert len(pictures._open) == 1
    pictures.close()
    assert len(pictures._open) == 0


def test_tile_without_a_split_is_shown_too(own):
    with own.session() as session:
        from engine.catalog.schema import Tile

        first = session.scalars(select(Tile).order_by(Tile.id)).first()
        first.split = "none"
        tile_id = first.id
    assert client_of(TilePictures(own)).get(f"/tiles/{tile_id}.png").status_code == 200
