"""Bodies are counted as they arrive, and nothing unfinished stays."""

from __future__ import annotations

import asyncio
import os

import pytest

from app.bodies import CHUNK_BYTES, UPLOAD_SECONDS, BodyLimit, Uploads
from engine.catalog.workspace import Workspace

CAP = 200_000
OVERHEAD = 1 << 16
UPLOAD = "/gradio_api/upload"


@pytest.fixture
def uploads(tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace:
        made = Uploads(workspace)
        made.sweep()
        yield made


async def reader(scope, receive, send):
    """Reads the whole body, then answers how much it was."""
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("cut off")
        total += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(total).encode()})


def post(uploads, chunks, *, path=UPLOAD, announced=None, application=reader, ends="complete", idle_seconds=5.0, reserve_bytes=0):
    """What is answered to a body of ``chunks``; ``ends`` says what follows them: its end, a disconnect, or nothing at all."""
    sent, left = [], list(chunks)

    async def send(message):
        sent.append(message)

    async def receive():
        if left:
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or ends != "complete"}
        if ends == "silence":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    headers = [(b"content-length", str(announced).encode())] if announced is not None else []
    scope = {"type": "http", "path": path, "headers": headers, "method": "POST"}
    limits = {"upload_bytes": CAP, "reserve_bytes": reserve_bytes, "idle_seconds": idle_seconds}
    asyncio.run(BodyLimit(application, uploads=uploads, **limits)(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode(), left


@pytest.mark.parametrize(
    ("path", "cap"),
    [
        (UPLOAD, CAP + OVERHEAD),
        ("/webhooks/label-studio", 1_000_000),
        ("/login", 1 << 16),
        ("/uploads", 1 << 16),
        ("/uploads/0123", CHUNK_BYTES),
        ("/x", 32 << 20),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_body_ends_at_the_cap_of_its_route_whatever_was_announced(uploads, path, cap, slash):
    chunk = b"x" * (cap // 4)
    rest = b"x" * (cap - 4 * len(chunk))
    assert post(uploads, [*[chunk] * 4, rest], path=path + slash)[:2] == (200, str(cap))
    for announced in (None, 10):
        status, said, _ = post(uploads, [*[chunk] * 4, rest + b"x"], path=path + slash, announced=announced)
        assert status == 413
        assert f"The limit is {CAP if path == UPLOAD else cap} bytes" in said


def test_body_announced_too_large_is_refused_before_it_is_read(uploads):
    async def never(scope, receive, send):
        pytest.fail("the application was asked")

    status, said, _ = post(uploads, [b"x"], announced=CAP + OVERHEAD + 1, application=never)
    assert (status, f"The limit is {CAP} bytes" in said) == (413, True)


def test_sender_may_finish_so_that_it_reads_the_answer(uploads):
    assert post(uploads, [b"x" * CAP] * 20)[2] == []


def test_an_application_that_fails_on_the_cut_does_not_hide_the_answer(uploads):
    async def stubborn(scope, receive, send):
        try:
            await reader(scope, receive, send)
        except ConnectionError:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"oops"})
            raise

    status, said, _ = post(uploads, [b"x" * CAP] * 3, application=stubborn)
    assert (status, "oops" in said) == (413, False)


def test_other_failures_are_not_hidden(uploads):
    async def broken(scope, receive, send):
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        post(uploads, [b"x"], application=broken)


def test_body_that_stops_coming_is_ended(uploads):
    status, said, _ = post(uploads, [b"x"], ends="silence", idle_seconds=0.05)
    assert (status, "Send it again" in said) == (408, True)


def test_answer_that_lasts_is_not_idle(uploads):
    async def waits_for_the_end(scope, receive, send):
        assert (await receive())["type"] == "http.request"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.2)
        await send({"type": "http.response.body", "body": b"done"})

    sent = []

    async def send(message):
        sent.append(message)

    asked = []

    async def receive():
        asked.append(1)
        if len(asked) > 1:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "path": "/gradio_api/queue/data", "headers": [], "method": "GET"}
    asyncio.run(BodyLimit(waits_for_the_end, uploads=uploads, upload_bytes=CAP, idle_seconds=0.05)(scope, receive, send))
    assert sent[-1]["body"] == b"done"


def writes_beside(uploads, name):
    """An application that writes what comes into a loose file, and does not tidy up."""

    async def application(scope, receive, send):
        (uploads.folder / name).write_bytes(b"begun")
        await reader(scope, receive, send)

    return application


@pytest.mark.parametrize(
    ("chunks", "ends"), [([b"x"], "disconnect"), ([b"x" * CAP] * 3, "complete"), ([b"x"], "silence"), ([b"x"], "complete")]
)
def test_cut_off_upload_leaves_nothing(uploads, chunks, ends):
    finished = uploads.folder / "abc" / "archive.zip"
    finished.parent.mkdir()
    finished.write_bytes(b"whole")
    try:
        post(uploads, chunks, ends=ends, application=writes_beside(uploads, "tmp1"), idle_seconds=0.05)
    except ConnectionError:
        assert ends == "disconnect"
    assert [path.name for path in uploads.folder.iterdir()] == ["abc"]
    assert finished.read_bytes() == b"whole"


def test_upload_that_is_still_coming_in_is_left_alone(uploads):
    with uploads.arriving():
        (uploads.folder / "tmp1").write_bytes(b"begun")
        with uploads.arriving():
            pass
        assert (uploads.folder / "tmp1").exists()
    assert not (uploads.folder / "tmp1").exists()


def test_what_a_dead_app_left_is_swept(uploads):
    (uploads.folder / "tmp1").write_bytes(b"begun")
    for name, age in (("old", UPLOAD_SECONDS + 60), ("new", UPLOAD_SECONDS - 60)):
        (uploads.folder / name).mkdir()
        (uploads.folder / name / "a.zip").write_bytes(b"")
        moment = 1_800_000_000 - age
        os.utime(uploads.folder / name, (moment, moment))
    uploads.sweep(now=1_800_000_000)
    assert [path.name for path in uploads.folder.iterdir()] == ["new"]


def test_stages_do_not_sweep_uploads_away(tmp_path):
    with Workspace.create(tmp_path / "other") as workspace:
        uploads = Uploads(workspace)
        uploads.sweep()
        (uploads.folder / ".tmp-0-archive.zip").write_bytes(b"still coming")
        with workspace.worker_lock("a stage"):
            pass
        assert (uploads.folder / ".tmp-0-archive.zip").exists()


@pytest.mark.guarantee("G40")
@pytest.mark.parametrize(("free", "announced", "status"), [(1000, 500, 200), (1000, 501, 507), (499, None, 507)])
def test_upload_that_would_take_of_the_reserve_is_refused_before_it_is_read(tmp_path, free, announced, status):
    with Workspace.create(tmp_path / "workspace") as workspace:
        uploads = Uploads(workspace, free_bytes=lambda _: free)
        said, sentence, left = post(uploads, [b"x" * 100], announced=announced, reserve_bytes=500)
    assert (said, left) == (status, [])
    assert status == 200 or str(free) in sentence
