"""Tiles for annotators elsewhere."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from app.routes import signed
from app.signing import Signer
from app.tile_pictures import TilePictures
from engine.catalog.tiles import tiles

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client
ADDRESS = "http://testserver"


@pytest.fixture
def signer():
    return Signer(b"0" * 32)


@pytest.fixture
def client(filled_workspace, signer):
    from starlette.testclient import TestClient

    app = FastAPI()
    app.include_router(signed.router(TilePictures(filled_workspace), signer))
    return TestClient(app)


@pytest.fixture
def ids(filled_workspace):
    with filled_workspace.session(write=False) as session:
        return [tile.id for tile in tiles(session)[:2]]


def test_signed_address_shows_the_tile_to_other_pages(client, signer, ids):
    answer = client.get(signer.tile_url(ADDRESS, ids[0]))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


def test_address_of_one_tile_shows_no_other(client, signer, ids):
    assert client.get(signer.tile_url(ADDRESS, ids[0]).replace(f"/{ids[0]}.png", f"/{ids[1]}.png")).status_code == 403


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.split("?")[0],
        lambda url: url.split("&")[0],
        lambda url: url.replace("expires=", "expires=9"),
        lambda url: url[:-1],
        lambda url: url + "&expires=9999999999",
    ],
)
def test_changed_address_shows_nothing(client, signer, ids, change):
    assert client.get(change(signer.tile_url(ADDRESS, ids[0]))).status_code == 403


def test_expired_address_shows_nothing_and_says_what_to_do(client, signer, ids):
    answer = client.get(signer.tile_url(ADDRESS, ids[0], valid_seconds=-1))
    assert answer.status_code == 403
    assert "push" in answer.text


def test_signed_address_of_no_tile_is_not_found(client, signer):
    assert client.get(signer.tile_url(ADDRESS, 999_999)).status_code == 404
