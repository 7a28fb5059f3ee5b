"""What comes in: bodies counted as they arrive, and the folder of uploads, in which nothing unfinished stays."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.catalog.workspace import Workspace

__all__ = ["CHUNK_BYTES", "LARGEST_FORM_BYTES", "UPLOAD_SECONDS", "BodyLimit", "Uploads"]

UPLOAD_PATHS = frozenset({"/gradio_api/upload"})
UPLOAD_OVERHEAD = 1 << 16
"""Boundaries and headers of a multipart body beside its files."""
LARGEST_FORM_BYTES = 64 << 20
"""The most that an upload may hold that comes in one go: none of our pages sends one, archives come in pieces."""
CHUNK_BYTES = 8 << 20
"""The most that a piece of a file may hold."""
PIECES = re.compile(r"/uploads/[^/]*")
LARGEST_BODY = {
    "/label-studio/predict": 8 << 20,
    "/label-studio/setup": 1_000_000,
    "/label-studio/webhook": 1_000_000,
    "/webhooks/label-studio": 1_000_000,
    "/login": 1 << 16,
    "/uploads": 1 << 16,
}
LARGEST_OTHER_BODY = 32 << 20
IDLE_SECONDS = 60.0
DRAIN_SECONDS, DRAIN_BYTES = 5.0, 256 << 20
UPLOAD_SECONDS = 86400.0
"""How long an upload stays where nobody takes it; the ``delete_cache`` of the pages should be (3600, this)."""


class Uploads:
    """The folder in which uploads arrive, ``temporary/uploads``: a file directly in it is unfinished, a folder holds a finished one."""

    def __init__(self, workspace: Workspace, *, free_bytes: Callable[[Path], int] = lambda at: shutil.disk_usage(at).free) -> None:
        self.folder, self._free_bytes = workspace.temporary / "uploads", free_bytes
        self._arriving = 0

    def free_bytes(self) -> int:
        """How much the disk has left."""
        return self._free_bytes(self.folder)

    @contextlib.contextmanager
    def arriving(self) -> Iterator[None]:
        """While an upload comes in; once none does, what was cut off is removed."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            if not self._arriving:
                _remove(path for path in _entries(self.folder) if path.is_file() and not path.is_symlink())

    def sweep(self, *, now: float | None = None) -> None:
        """Remove what was cut off, and what nobody took within a day; for the app in charge, as it starts."""
        moment = time.time() if now is None else now
        self.folder.mkdir(parents=True, exist_ok=True)
        _remove(path for path in _entries(self.folder) if path.is_file() or _age(path, moment) > UPLOAD_SECONDS)


class BodyLimit:
    """ASGI middleware that counts the bytes of each body as they arrive, whatever was announced, and ends it at the route's cap.

    Args:
        app: what reads the bodies.
        uploads: where uploads arrive.
        upload_bytes: the most that an upload may hold.
        reserve_bytes: the space on the disk that an upload leaves free.
        idle_seconds: how long a body may pause.
    """

    def __init__(
        self, app: ASGIApp, *, uploads: Uploads, upload_bytes: int, reserve_bytes: int = 0, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self.app, self._uploads, self._upload_bytes, self._idle = app, uploads, upload_bytes, idle_seconds
        self._reserve = reserve_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body under guard."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].rstrip("/")
        uploading = path in UPLOAD_PATHS
        cap = self._upload_bytes if uploading else CHUNK_BYTES if PIECES.fullmatch(path) else LARGEST_BODY.get(path, LARGEST_OTHER_BODY)
        body = _Body(scope, receive, send, cap=cap, room=UPLOAD_OVERHEAD if uploading else 0, idle_seconds=self._idle)
        if body.announced > body.most:
            await body.refuse_size()
            return
        if uploading and (free := self._uploads.free_bytes()) - body.announced < self._reserve:
            await body.refuse_space(free, self._reserve)
            return
        with self._uploads.arriving() if uploading else contextlib.nullcontext():
            try:
                await self.app(scope, body.receive, body.send)
            except Exception:
                if not body.refused:
                    raise


class _Body:
    """One request's body: what has come of it, and whether it was refused."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, cap: int, room: int, idle_seconds: float) -> None:
        self._receive, self._send, self._idle = receive, send, idle_seconds
        self._cap, self.most = cap, cap + room
        self._seen, self._complete, self._started, self.refused = 0, False, False, False
        length = dict(scope["headers"]).get(b"content-length", b"0")
        self.announced = int(length) if length.isdigit() else 0

    async def receive(self) -> Message:
        """The next piece, or the end where the body is refused: then the answer was given already."""
        if self.refused:
            return {"type": "http.disconnect"}
        if self._complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._idle)
        except TimeoutError:
            await self._refuse(408, f"Nothing came for {self._idle:g} seconds. Send it again.")
            return {"type": "http.disconnect"}
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._seen > self.most:
                await self.refuse_size()
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        """Pass an answer on, unless the body was refused with one."""
        if not self.refused:
            self._started = True
            await self._send(message)

    async def refuse_size(self) -> None:
        """Answer 413, naming the cap."""
        sentence = f"The limit is {self._cap} bytes here. Send less, or name a larger archive by its path on the server."
        await self._refuse(413, sentence, drained=True)

    async def refuse_space(self, free: int, reserve: int) -> None:
        """Answer 507, naming what the disk has."""
        sentence = f"The upload needs {self.announced} bytes beside the {reserve} that stay free; the disk has {free}. Make room on it."
        await self._refuse(507, sentence, drained=True)

    async def _refuse(self, status: int, sentence: str, *, drained: bool = False) -> None:
        self.refused = True
        if not self._started:
            answer = PlainTextResponse(f"{sentence}\n", status_code=status, headers={"Connection": "close"})
            await self._send({"type": "http.response.start", "status": status, "headers": answer.raw_headers})
            await self._send({"type": "http.response.body", "body": answer.body, "more_body": True})
            if drained:
                await self._drain()
            await self._send({"type": "http.response.body", "body": b""})

    async def _drain(self) -> None:
        """Let the sender finish for a while: many read the answer only then, and never where the connection is cut before."""
        drained = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._complete and drained < DRAIN_BYTES:
                    message = await self._receive()
                    drained += len(message.get("body", b""))
                    self._complete = message["type"] != "http.request" or not message.get("more_body", False)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _age(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
