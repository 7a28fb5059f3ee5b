"""Files in pieces: each goes where the last one ended, so that an upload goes on after anything that cuts it off."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.announcements import Announcement, Arrival, UploadRefused
from app.arrivals import Arrivals
from app.security import LOCAL_USER, USER

__all__ = ["PIECES_AT_ONCE", "router"]

PIECES_AT_ONCE = 8
"""Pieces that are held in memory while they come in; more are asked to come again."""
CHECKSUM = re.compile(r"crc32 ([0-9a-f]{8})")
NEVER_KEPT = {"Cache-Control": "no-store"}

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


def router(arrivals: Arrivals) -> APIRouter:
    """``GET`` and ``POST /uploads``, and ``GET``, ``HEAD``, ``PATCH`` and ``DELETE /uploads/{id}``.

    A piece comes with the headers ``Upload-Offset`` (a byte) and ``Upload-Checksum`` (``crc32`` and eight hexadecimal digits).
    """
    routes = APIRouter(prefix="/uploads")
    gate = _Gate(PIECES_AT_ONCE)

    @routes.get("")
    def under_way(request: Request) -> Response:
        """The visitor's uploads."""
        return JSONResponse([_shown(arrival) for arrival in arrivals.of(_visitor(request))], headers=NEVER_KEPT)

    @routes.post("")
    def begin(announced: Announcement, request: Request) -> Response:
        """Begin one, or find the one that was begun with the same file."""
        return _answer(lambda: arrivals.begin(announced, _visitor(request)))

    @routes.api_route("/{upload_id}", methods=["GET", "HEAD"])
    def look(upload_id: Id, request: Request) -> Response:
        """How far one is."""
        return _answer(lambda: arrivals.get(upload_id, _visitor(request)))

    @routes.patch("/{upload_id}")
    async def append(
        upload_id: Id, request: Request, upload_offset: Annotated[int, Header(ge=0)], upload_checksum: Annotated[str, Header()]
    ) -> Response:
        """Add the next piece."""
        checksum = CHECKSUM.fullmatch(upload_checksum)
        if checksum is None:
            return _refusal(UploadRefused(HTTPStatus.BAD_REQUEST, f"the checksum {upload_checksum!r}", expected="crc32 01234567"))
        async with gate.entered() as free:
            if not free:
                return _refusal(
                    UploadRefused(HTTPStatus.TOO_MANY_REQUESTS, f"{PIECES_AT_ONCE} pieces are coming in already", remedy="Send it again")
                )
            try:
                piece = await request.body()
            except ClientDisconnect:
                return Response(status_code=HTTPStatus.BAD_REQUEST)
            return await run_in_threadpool(
                lambda: _answer(lambda: arrivals.append(upload_id, _visitor(request), upload_offset, piece, int(checksum[1], 16)))
            )

    @routes.delete("/{upload_id}")
    def remove(upload_id: Id, request: Request) -> Response:
        """Forget one."""
        try:
            arrivals.remove(upload_id, _visitor(request))
        except UploadRefused as refusal:
            return _refusal(refusal)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return routes


class _Gate:
    """So many at once; only ever asked in the server's event loop."""

    def __init__(self, most: int) -> None:
        self._free = most

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[bool]:
        """Whether there was room."""
        if not self._free:
            yield False
            return
        self._free -= 1
        try:
            yield True
        finally:
            self._free += 1


def _visitor(request: Request) -> str:
    return str(request.scope.get(USER) or LOCAL_USER)


def _shown(arrival: Arrival) -> dict[str, object]:
    return arrival.model_dump(include={"id", "name", "size", "purpose", "offset"})


def _answer(action: Callable[[], Arrival]) -> Response:
    try:
        arrival = action()
    except UploadRefused as refusal:
        return _refusal(refusal)
    return JSONResponse(_shown(arrival), headers={**NEVER_KEPT, "Upload-Offset": str(arrival.offset)})


def _refusal(refusal: UploadRefused) -> Response:
    said = {"found": refusal.found, "expected": refusal.expected, "remedy": refusal.remedy, "offset": refusal.offset}
    later = {"Retry-After": "1"} if refusal.status is HTTPStatus.TOO_MANY_REQUESTS else {}
    return JSONResponse(said, status_code=refusal.status, headers={**NEVER_KEPT, **later})
