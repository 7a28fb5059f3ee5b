"""The browser's half of our own pages: a few scripts and styles by name, of ours and of Leaflet."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

from app.routes.tiles import unless_known
from app.tile_pictures import etag

__all__ = ["LEAFLET", "OWN", "router"]

OWN = ("uploads.js", "scene.js", "scene.css", "keys.js", "labeller.js", "labeller.css")
LEAFLET = ("leaflet.js", "leaflet.css", "images/layers.png", "images/layers-2x.png")
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
CACHE = "private, no-cache"


def router() -> APIRouter:
    """``GET /web/{name}``: one of :data:`OWN`, or ``leaflet/`` and one of :data:`LEAFLET`."""
    routes = APIRouter()

    @routes.get("/web/{name:path}")
    def part(name: str, request: Request) -> Response:
        file = _files().get(name)
        if file is None:
            raise HTTPException(404, "no such part of the pages")
        content = file.read_bytes()
        tag = etag("web", name, content)
        headers = {"Cache-Control": CACHE, "ETag": tag}
        return unless_known(request, tag) or Response(content, media_type=MEDIA_TYPES[file.suffix], headers=headers)

    return routes


@cache
def _files() -> dict[str, Path]:
    """What may be asked for, and where it lies: a name from outside never becomes a path."""
    package = importlib.util.find_spec("js_lib_leaflet")
    assert package is not None, "django-js-lib-leaflet is among the dependencies"
    assert package.submodule_search_locations, "it is a package"
    leaflet = Path(package.submodule_search_locations[0]) / "static" / "js_lib_leaflet"
    own = Path(__file__).parents[1] / "web"
    return {name: own / name for name in OWN} | {f"leaflet/{name}": leaflet / name for name in LEAFLET}
