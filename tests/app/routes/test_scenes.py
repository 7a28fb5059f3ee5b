"""The page of a scene, its squares and its boxes."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest
from fastapi import FastAPI

from app.deep_zoom import DeepZoom
from app.pages.scene import SceneFacts, scene_page
from app.routes import scenes as route
from app.tile_pictures import TilePictures
from engine.catalog.schema import Scene
from engine.catalog.tiles import tiles

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client


@pytest.fixture
def client(filled_workspace):
    from starlette.testclient import TestClient

    pictures = TilePictures(filled_workspace)
    app = FastAPI()
    app.include_router(route.router(filled_workspace, DeepZoom(pictures, filled_workspace)))
    yield TestClient(app)
    pictures.close()


@pytest.fixture
def every(filled_workspace):
    with filled_workspace.session(write=False) as session:
        return tiles(session)


def test_square_is_the_browser_s_own_and_sent_once(client, every):
    address = f"/scenes/{every[0].scene_id}/0/0/0.png"
    first = client.get(address)
    assert (first.status_code, first.headers["content-type"]) == (200, "image/png")
    assert first.headers["cache-control"].startswith("private")
    again = client.get(address, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "place", ["1/1/0/0", "1/0/1/0", "1/0/0/1", "1/-1/0/0", "1/33/0/0", "1/0/99999999999999999999/0", "99/0/0/0", "0/0/0/0", "x/0/0/0"]
)
def test_anything_but_a_square_of_a_scene_is_not_found(client, place):
    assert client.get(f"/scenes/{place}.png").status_code in {404, 422}


def test_square_that_needs_a_copy_is_asked_for_again(filled_workspace, every):
    from starlette.testclient import TestClient

    class Making:
        def scene(self, scene_id):
            with filled_workspace.session(write=False) as session:
                return session.get(Scene, scene_id)

        def square(self, *_):
            return None

        def progress(self, _):
            return 0.25

    app = FastAPI()
    app.include_router(route.router(filled_workspace, Making()))
    answer = TestClient(app).get(f"/scenes/{every[0].scene_id}/0/0/0.png")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert TestClient(app).get(f"/scenes/{every[0].scene_id}/boxes.json").json()["overview"] == 0.25


def test_boxes_and_tiles_of_the_part_that_is_looked_at(client, every, filled_workspace):
    scene = every[0].scene_id
    whole = client.get(f"/scenes/{scene}/boxes.json").json()
    assert whole["boxes_total"] == len(whole["boxes"])
    assert {tile.id for tile in every if tile.scene_id == scene} <= {tile["id"] for tile in whole["tiles"]}
    assert whole["believed"] == []
    assert whole["overview"] is None
    corner = client.get(f"/scenes/{scene}/boxes.json", params={"x1": 0, "y1": 0, "x2": 32, "y2": 32}).json()
    assert [tile["at"] for tile in corner["tiles"]] == [[0, 0, 32, 32]]


def test_what_only_the_oracle_knows_is_not_shown(client, every, filled_workspace):
    from engine.catalog.annotations import scene_boxes

    with filled_workspace.session(write=False) as session:
        for scene in {tile.scene_id for tile in every}:
            assert client.get(f"/scenes/{scene}/boxes.json").json()["boxes_total"] == len(scene_boxes(session, scene))
            assert len(scene_boxes(session, scene, ["withheld", "accepted"])) == 4


@pytest.mark.parametrize("query", ["x1=nan", "x1=inf", "x1=1e99", "score=2", "score=-1", "y2=x"])
def test_view_that_is_none_is_refused(client, every, query):
    assert client.get(f"/scenes/{every[0].scene_id}/boxes.json?{query}").status_code == 422


def facts_of(page):
    return json.loads(html.unescape(re.search(r'data-facts="([^"]*)"', page)[1]))


def test_page_says_what_its_script_needs_and_names_stay_text(client, every):
    for scene in {tile.scene_id for tile in every}:
        page = client.get("/scene", params={"scene": scene})
        assert page.status_code == 200
        assert "<img" not in page.text
        assert "<b>ship" not in page.text
        assert "&lt;b&gt;ship" in page.text
        assert facts_of(page.text)["id"] == scene
        assert len(facts_of(page.text)["colours"]) == 2


def test_page_opens_at_a_tile_of_its_scene_alone(client, every):
    first, other = every[3], next(tile for tile in every if tile.scene_id != every[3].scene_id)
    assert facts_of(client.get(f"/scene?scene={first.scene_id}&tile={first.id}").text)["focus"] == list(first.window.xyxy)
    assert facts_of(client.get(f"/scene?scene={first.scene_id}&tile={other.id}").text)["focus"] is None


@pytest.mark.parametrize("query", ["", "scene=0", "scene=99", "scene=x", "scene=1&tile=x"])
def test_page_of_no_scene_is_not_found(client, query):
    assert client.get(f"/scene?{query}").status_code in {404, 422}


def test_hostile_class_ends_no_attribute():
    facts = SceneFacts(1, "a", 10, 10, 0, ('"><script>alert(1)</script>',))
    page = scene_page(replace(facts, name="</title><script>alert(2)</script>"))
    assert "<script>alert" not in page
    assert facts_of(page)["width"] == 10
