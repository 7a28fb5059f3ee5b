"""Pictures that lie in the workspace as they are sent: the browser keeps them, and asks whether they changed."""

from __future__ import annotations

from pathlib import Path

from fastapi import HTTPException, Request, Response

from app.routes.tiles import unless_known
from app.tile_pictures import etag

__all__ = ["content_of", "png_answer"]

CACHE = "private, no-cache"


def content_of(file: Path | None) -> bytes:
    """What is in the file; nothing where there is none, or none any more."""
    try:
        return b"" if file is None else file.read_bytes()
    except FileNotFoundError:
        return b""


def png_answer(request: Request, kind: str, content: bytes) -> Response:
    """The PNG, or 304 where the browser has it.

    Args:
        request: what the browser asks.
        kind: what the picture is of.
        content: of the file; none for 404.
    """
    if not content:
        raise HTTPException(404, f"no such picture of {kind}")
    tag = etag(kind, content)
    headers = {"Cache-Control": CACHE, "ETag": tag}
    return unless_known(request, tag) or Response(content, media_type="image/png", headers=headers)
