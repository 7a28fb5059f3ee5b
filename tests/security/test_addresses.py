"""The service asks nobody for anything because a visitor, a file or a server says so."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from app.pages.context import PageContext
from app.pages.imagery import Actions
from app.settings import Settings
from app.wiring import hub_weights
from connectors.label_studio.client import LabelStudioServer
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, TilehawkError
from engine.stages.ingest import IngestConfig, ingest

pytestmark = [
    pytest.mark.guarantee("G37"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # gradio's imports and starlette's test client, none of them ours
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TOKEN = "CANARY0123456789abcdef"


@contextmanager
def listening(answer):
    """A server on loopback that notes who asks and answers ``answer(path)``: a status and headers."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            status, headers = answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_HEAD = do_PATCH = do_GET  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_arguments):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def canary():
    """(port, who asked) of a server that nobody should ask."""
    with listening(lambda path: (200, {"Content-Type": "image/png"})) as (port, asked):
        yield port, asked
        assert asked == [], "somebody was sent to an address that a visitor named"


def addresses(port):
    """Ways to write the address of this machine."""
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "a@127.0.0.1"):
        yield from (f"http://{host}:{port}/x.tif", f"https://{host}:{port}/x.zip", f"/vsicurl/http://{host}:{port}/x.tif")
    yield from (f"/vsizip//vsicurl/http://127.0.0.1:{port}/x.zip/x.tif", f"WMS:http://127.0.0.1:{port}/?", f"s3://127.0.0.1:{port}/x")


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


def test_imagery_is_never_named_by_an_address(canary, workspace):
    for address in addresses(canary[0]):
        with pytest.raises(TilehawkError):
            ingest(workspace, address, IngestConfig())


def test_page_brings_nothing_in_from_an_address(canary, workspace, fake):
    elsewhere = PageContext(workspace, fake("jobs").FakeJobs(), Settings(), local=False)
    for address in addresses(canary[0]):
        with pytest.raises(BadInput, match="outside the folders"):
            Actions(elsewhere).take_in(address, 320, 64, None)
    assert elsewhere.jobs.queued == []


@pytest.mark.parametrize("suffix", ["tif", "png", "vrt", "xml", "jpg"])
def test_file_that_names_an_address_is_not_followed(canary, workspace, tmp_path, suffix):
    port, _ = canary
    folder = tmp_path / "imagery"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "good.png")
    source = f"/vsicurl/http://127.0.0.1:{port}/x.tif"
    (folder / f"a.{suffix}").write_text(
        f'<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    (folder / f"b.{suffix}").write_text(
        f"<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:{port}/</ServerUrl></Service></GDAL_WMS>"
    )
    ingest(workspace, folder, IngestConfig(tile=32, overlap=0))


def test_event_and_routes_of_the_pages_fetch_nothing(canary, workspace, fake):
    port, _ = canary
    application = fake("web").application(workspace, fake("jobs").FakeJobs(), fake("pages").build)
    with fake("web").client(application) as client:
        for address in addresses(port):
            for route in ("/gradio_api/file={}", "/gradio_api/proxy={}", "/proxy={}", "/gradio_api/custom_component/{}/x/y"):
                client.get(route.format(address))
        event = next(each["id"] for each in client.get("/config").json()["dependencies"] if each["inputs"])
        for number, address in enumerate([f"http://127.0.0.1:{port}/x", f"http://0.0.0.0:{port}/x"]):
            for file in ({"path": address}, {"path": "x", "url": address}, {"path": "", "url": address}):
                data = [{**file, "meta": {"_type": "gradio.FileData"}}]
                session = f"session{number}{len(file)}"
                client.post("/gradio_api/queue/join", json={"data": data, "fn_index": event, "session_hash": session})
                client.get("/gradio_api/queue/data", params={"session_hash": session})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_annotation_server_sends_nobody_elsewhere(canary, status):
    """Its origin is the one that was configured: a redirect is refused, and the token goes nowhere else."""
    port, _ = canary
    with listening(lambda path: (status, {"Location": f"http://127.0.0.1:{port}{path}"})) as (theirs, asked):
        server = LabelStudioServer(f"http://127.0.0.1:{theirs}", TOKEN, pause=lambda _: None)
        with pytest.raises(TilehawkError) as refused:
            server.who()
        assert asked, "the configured one was asked"
        assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["http://user:secret@127.0.0.1:1", "ftp://127.0.0.1", "file:///etc/passwd", "//127.0.0.1", "127.0.0.1:8080"]
)
def test_annotation_server_is_a_plain_web_address(address):
    with pytest.raises(TilehawkError):
        LabelStudioServer(address, TOKEN).who()


def test_name_of_weights_is_no_address(canary):
    for address in addresses(canary[0]):
        with pytest.raises(BadInput, match="no weights"):
            hub_weights(address)
