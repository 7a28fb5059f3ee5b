"""No path leads to a file that is not meant to be served, and what comes in stays in its folder."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from app.settings import Settings
from app.signing import Signer
from engine.catalog.workspace import Workspace

pytestmark = [
    pytest.mark.guarantee("G36"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # gradio's imports and starlette's test client, none of them ours
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:gradio"),
]

CANARY = b"CANARY-7f3a"
SECRETS = ["secret.key", "connections.json", "catalog.sqlite", "jobs.sqlite", "tilehawk.json", "models/m/model.safetensors", ".hidden"]
UPLOAD_BYTES = 20_000


@pytest.fixture(scope="module")
def place(tmp_path_factory, fake):
    """The application on a workspace full of secrets, and a current folder with one."""
    root = tmp_path_factory.mktemp("secrets")
    (root / "current").mkdir()
    (root / "current" / "secret.txt").write_bytes(CANARY)
    (root / "current" / ".env").write_bytes(CANARY)
    with Workspace.create(root / "workspace") as workspace, pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "current")
        web = fake("web")
        settings = Settings(upload_bytes=UPLOAD_BYTES)
        application = web.application(workspace, fake("jobs").FakeJobs(), fake("pages").build, settings=settings)
        for name in SECRETS:
            path = workspace.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name in {"connections.json", "models/m/model.safetensors", ".hidden"}:
                path.write_bytes(CANARY)
        with closing(sqlite3.connect(workspace.root / "jobs.sqlite")) as store:
            store.execute("CREATE TABLE job (name TEXT)")
        yield application, workspace


@pytest.fixture(scope="module")
def client(place, fake):
    with fake("web").client(place[0]) as made:
        yield made


async def get(application, raw_path):
    """(status, body) of a GET with exactly this path: no client in between that tidies it."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    path, _, query = raw_path.partition("?")
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "root_path": ""}
    scope |= {"path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "client": ("127.0.0.1", 1)}
    scope |= {"server": ("127.0.0.1", 7860), "headers": [(b"host", b"127.0.0.1:7860")]}
    await application(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def secrets_of(workspace):
    return [CANARY, b"SQLite format 3", Signer.of(workspace).key("tile"), (workspace.root / "secret.key").read_bytes()]


async def comes_out(application, address, secrets):
    """Whether the answer to ``address`` is, or holds, something that it must not: a word, for a secret belongs in no report."""
    status, body = await get(application, address)
    if any(secret in body for secret in secrets):
        return "a secret"
    refused = status in {400, 401, 403, 404, 405, 422} or not body or b"window.gradio_config" in body
    return "" if refused else f"an answer of {status}"


SERVING = ["/gradio_api/file={}", "/gradio_api/file/{}", "/file={}", "/file/{}", "/static/{}", "/assets/{}", "/svelte/{}", "/theme.css/{}"]
SERVING += ["/gradio_api/proxy={}", "/gradio_api/custom_component/x/client/{}/x", "/downloads/exports/{}", "/downloads/labels/{}"]
SERVING += ["/downloads/layers/{}", "/tiles/{}.png", "/scenes/{}.png", "/hits/{}.png", "/signed/tiles/{}.png", "/{}"]


def tricks(target: Path, uploads: Path):
    """Ways to write the path of ``target``."""
    climbs = "../" * 12
    plain = str(target)
    yield from (plain, plain.lstrip("/"), f"//{plain}", f"/{plain}", f"file://{plain}", f"file:{plain}", f"http://127.0.0.1{plain}")
    yield from (f"{climbs}{plain}", f"..{plain}", f"./{plain}", f"{plain}/", f"{plain}%00.png", f"{plain}?x=.png", f"{plain}#.png")
    yield from (quote(plain, safe=""), quote(quote(plain, safe=""), safe=""), quote(climbs, safe="") + plain, plain.replace("/", "\\"))
    yield from (f"{uploads}/../../{target.name}", f"{uploads}/..%2f..%2f{target.name}", f"{uploads}/%2e%2e/%2e%2e/{target.name}")
    yield from (f"{uploads}/....//....//{target.name}", f"{uploads}/..\\..\\{target.name}", f"{uploads}x/../../../{target.name}")
    yield from (target.name, f"./{target.name}", f"%2e/{target.name}", f"../workspace/{target.name}", plain.upper(), "~/" + target.name)


@pytest.mark.parametrize("name", [*SECRETS, "../current/secret.txt", "../current/.env"])
def test_no_way_of_writing_a_secret_s_path_brings_it_out(place, name):
    application, workspace = place
    target = (workspace.root / name).resolve()
    assert target.is_file()
    secrets = secrets_of(workspace)
    addresses = [route.format(written) for route in SERVING for written in tricks(target, workspace.temporary / "uploads")]

    async def ask_all():
        return {address: what for address in addresses if (what := await comes_out(application, address, secrets))}

    assert asyncio.run(ask_all()) == {}


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1/", "https://example.org/", "HTTP://example.org", "//example.org/x", "ftp://example.org/", "data:text/html,x"],
)
def test_app_fetches_nothing_for_anybody(place, address):
    for route in ("/gradio_api/file={}", "/gradio_api/proxy={}"):
        for written in (address, quote(address, safe="")):
            assert asyncio.run(get(place[0], route.format(written)))[0] in {403, 404}, (route, written)


def upload(client, name, content, **options):
    return client.post("/gradio_api/upload", files={"files": (name, content)}, **options)


def kept(workspace):
    return sorted(str(path.relative_to(workspace.temporary)) for path in workspace.temporary.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "name", ["../../../evil.txt", "/etc/evil.txt", "..\\..\\evil.txt", "a/../../evil.txt", "evil.txt\x00.png", "..", ".", "~", "CON"]
)
def test_upload_lands_in_its_folder_whatever_its_name(place, client, name):
    _, workspace = place
    before = {path for path in workspace.root.parent.rglob("*") if workspace.temporary not in path.parents}
    answer = upload(client, name, name.encode("utf-8", "replace"))
    assert answer.status_code in {200, 400, 500} if name in {"..", "."} else answer.status_code == 200
    for stored in answer.json() if answer.status_code == 200 else []:
        assert Path(stored).resolve().is_relative_to(workspace.temporary / "uploads")
    assert {path for path in workspace.root.parent.rglob("*") if workspace.temporary not in path.parents} == before


@pytest.mark.parametrize("name", ["page.html", "picture.svg", "script.js", "page.xhtml"])
def test_uploaded_page_is_never_shown_as_one(client, name):
    stored = upload(client, name, b"<script>alert(1)</script>").json()[0]
    answer = client.get(f"/gradio_api/file={stored}")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("files", [[UPLOAD_BYTES + 1], [UPLOAD_BYTES * 50], [15_000] * 10])
@pytest.mark.parametrize("announced", [True, False])
def test_upload_over_the_cap_is_refused_by_name_and_leaves_nothing(place, client, files, announced):
    _, workspace = place
    before = kept(workspace)
    boundary = b"xxBOUNDARYxx"
    body = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="files"; filename="%d.zip"\r\n\r\n%s\r\n' % (boundary, index, bytes([index]) * size)
        for index, size in enumerate(files)
    )
    body += b"--%s--\r\n" % boundary
    content = body if announced else iter([body[start : start + 7_000] for start in range(0, len(body), 7_000)])
    headers = {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}
    answer = client.post("/gradio_api/upload", content=content, headers=headers)
    assert answer.status_code == 413
    assert str(UPLOAD_BYTES) in answer.text
    assert kept(workspace) == before


def test_upload_that_is_cut_off_leaves_nothing(place, client):
    _, workspace = place
    before = kept(workspace)
    begun = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\nPK-and-then-nothing'
    answer = client.post("/gradio_api/upload", content=begun, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.json() == [] if answer.status_code == 200 else answer.status_code == 400
    assert kept(workspace) == before


def say(client, fn_index, data):
    """What an event of the page answers to ``data``: every message of its stream."""
    session = "s" * 10
    joined = client.post("/gradio_api/queue/join", json={"data": data, "fn_index": fn_index, "session_hash": session})
    if joined.status_code != 200:
        return joined.text
    return client.get("/gradio_api/queue/data", params={"session_hash": session}).text


def test_event_is_given_no_file_but_an_upload(place, client):
    _, workspace = place
    event = next(each["id"] for each in client.get("/config").json()["dependencies"] if each["inputs"])

    def given(path):
        return say(client, event, [{"path": str(path), "meta": {"_type": "gradio.FileData"}}])

    stored = upload(client, "harmless.txt", b"harmless words").json()[0]
    assert "harmless words" in given(stored)
    for secret in (workspace.root / "connections.json", Path.cwd() / "secret.txt", "../workspace/connections.json", "secret.txt"):
        said = given(secret)
        assert CANARY.decode() not in said
        assert '"success":false' in said.replace(" ", "")
    assert CANARY.decode() not in given("http://127.0.0.1:1/x")


@pytest.mark.parametrize("function", ["__class__", "__init__", "preprocess", "process", "ls", "get_config", "_is_server_fn"])
def test_no_method_of_a_component_can_be_called(place, client, function):
    components = [each["id"] for each in client.get("/config").json()["components"]]
    for component in components:
        body = {"component_id": component, "fn_name": function, "data": ["/", {"path": "/etc/passwd"}], "session_hash": "s"}
        assert client.post(
            "/gradio_api/component_server", content=json.dumps(body), headers={"content-type": "application/json"}
        ).status_code in {404, 422}
