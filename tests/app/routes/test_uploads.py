"""The routes of uploads: pieces in, refusals as the browser needs them."""

from __future__ import annotations

import asyncio
import zlib

import httpx
import pytest
from fastapi import FastAPI

from app.announcements import UploadLimits
from app.arrivals import Arrivals
from app.routes import uploads as route
from app.security import USER
from engine.catalog.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client

FILE = {"name": "flight.zip", "size": 10, "fingerprint": "0123456789abcdef", "purpose": "imagery"}


@pytest.fixture
def arrivals(tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace:
        yield Arrivals(workspace, UploadLimits(largest=1000, together=2000, reserve=0, arriving=3))


@pytest.fixture
def application(arrivals):
    app = FastAPI()
    app.include_router(route.router(arrivals))
    return app


@pytest.fixture
def client(application):
    from starlette.testclient import TestClient

    return TestClient(application)


def send(client, upload, content, *, at=0, checksum=None):
    headers = {"Upload-Offset": str(at), "Upload-Checksum": checksum or f"crc32 {zlib.crc32(content):08x}"}
    return client.patch(f"/uploads/{upload}", content=content, headers=headers)


def test_pieces_come_in_where_the_last_one_ended(client, arrivals):
    begun = client.post("/uploads", json=FILE).json()
    assert begun == {"id": begun["id"], "name": "flight.zip", "size": 10, "purpose": "imagery", "offset": 0}
    assert send(client, begun["id"], b"0123").json()["offset"] == 4
    assert client.head(f"/uploads/{begun['id']}").headers["upload-offset"] == "4"
    assert client.get(f"/uploads/{begun['id']}").json()["offset"] == 4
    assert client.post("/uploads", json=FILE).json()["offset"] == 4, "the same file again"
    assert client.get("/uploads").json() == [{**begun, "offset": 4}]
    assert send(client, begun["id"], b"456789", at=4).json()["offset"] == 10
    assert arrivals.take(begun["id"], "local").read_bytes() == b"0123456789"
    assert client.get("/uploads").json() == []


def test_piece_for_elsewhere_is_told_where(client):
    begun = client.post("/uploads", json=FILE).json()
    answer = send(client, begun["id"], b"0123", at=4)
    assert (answer.status_code, answer.json()["offset"]) == (409, 0)
    assert answer.json()["found"].startswith("a piece for byte 4")


@pytest.mark.parametrize("checksum", ["crc32 00000000", "crc32 xyz", "md5 00000000", "crc32 000000001"])
def test_piece_with_a_wrong_checksum_adds_nothing(client, checksum):
    begun = client.post("/uploads", json=FILE).json()
    assert send(client, begun["id"], b"0123", checksum=checksum).status_code in {400, 422}
    assert client.get(f"/uploads/{begun['id']}").json()["offset"] == 0


def test_removed_upload_is_gone(client):
    begun = client.post("/uploads", json=FILE).json()
    assert client.delete(f"/uploads/{begun['id']}").status_code == 204
    for answer in (client.delete(f"/uploads/{begun['id']}"), client.get(f"/uploads/{begun['id']}"), send(client, begun["id"], b"0")):
        assert (answer.status_code, answer.json()["remedy"]) == (404, "Choose the file again")


@pytest.mark.parametrize(
    "announced",
    [{"size": 0}, {"size": -1}, {"size": 2**60}, {"name": ""}, {"fingerprint": "../../x"}, {"purpose": "models"}, {"by": "bob"}],
)
def test_announcement_that_is_none_is_refused(client, announced):
    assert client.post("/uploads", json={**FILE, **announced}).status_code == 422
    assert client.get("/uploads").json() == []


@pytest.mark.guarantee("G36")
@pytest.mark.parametrize("upload", ["0" * 31, "0" * 33, "..", "%2e%2e%2fsecret.key", "0" * 28 + "%2f..", "A" * 32])
def test_anything_but_an_id_is_no_upload(client, upload):
    assert client.get(f"/uploads/{upload}").status_code in {404, 422}
    assert send(client, upload, b"x").status_code in {404, 405, 422}


@pytest.mark.guarantee("G40")
def test_refusals_at_a_cap_say_what_to_do(client):
    too_large = client.post("/uploads", json={**FILE, "size": 1001})
    assert (too_large.status_code, "TILEHAWK_UPLOAD_BYTES" in too_large.json()["remedy"]) == (413, True)
    for index in range(3):
        assert client.post("/uploads", json={**FILE, "fingerprint": f"{index:08x}"}).status_code == 200
    too_many = client.post("/uploads", json={**FILE, "fingerprint": "f" * 8})
    assert (too_many.status_code, "remove some first" in too_many.json()["remedy"]) == (429, True)


@pytest.mark.guarantee("G40")
def test_only_so_many_pieces_are_held_in_memory_at_once(application, client):
    """Bodies that do not end: one more is asked to come again, and all come through when they do."""
    begun = client.post("/uploads", json=FILE).json()
    release = asyncio.Event()

    async def slowly():
        yield b"01"
        await release.wait()
        yield b"23"

    async def patch(http, content, checksum=b"0123"):
        headers = {"Upload-Offset": "0", "Upload-Checksum": f"crc32 {zlib.crc32(checksum):08x}"}
        return await http.patch(f"/uploads/{begun['id']}", content=content, headers=headers)

    async def crowd():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://127.0.0.1") as http:
            held = [asyncio.create_task(patch(http, slowly())) for _ in range(route.PIECES_AT_ONCE)]
            for _ in range(20):
                await asyncio.sleep(0)
            one_more = await patch(http, b"0123")
            release.set()
            return one_more, [answer.status_code for answer in await asyncio.gather(*held)]

    one_more, statuses = asyncio.run(crowd())
    assert (one_more.status_code, one_more.headers["retry-after"]) == (429, "1")
    assert sorted(statuses) == [200] + [409] * (route.PIECES_AT_ONCE - 1)


def test_uploads_belong_to_who_began_them(arrivals):
    from starlette.testclient import TestClient

    def of(user):
        inner = FastAPI()
        inner.include_router(route.router(arrivals))

        async def app(scope, receive, send):
            scope[USER] = user
            await inner(scope, receive, send)

        return TestClient(app)

    begun = of("ana").post("/uploads", json=FILE).json()
    assert of("bob").get("/uploads").json() == []
    assert of("bob").get(f"/uploads/{begun['id']}").status_code == 404
    assert of("bob").delete(f"/uploads/{begun['id']}").status_code == 404
    assert send(of("bob"), begun["id"], b"0").status_code == 404
    assert of("ana").get(f"/uploads/{begun['id']}").status_code == 200
