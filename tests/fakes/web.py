"""The application as a client sees it, without a server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

from starlette.routing import Mount

from app.server import create_app
from app.settings import Settings

OWN = "http://127.0.0.1:7860"
ELSEWHERE = "https://tiles.example.org"


def application(workspace: Any, jobs: Any, pages: Any, *, settings: Settings | None = None, **options: Any) -> Any:
    """The application with ``pages``, made inside an event loop: without one Gradio opens one of its own and never closes it."""

    async def make() -> Any:
        return create_app(workspace, settings or Settings(), jobs=jobs, pages=pages, **options)

    return asyncio.run(make())


def client(app: Any, *, address: str = OWN, machine: str = "127.0.0.1") -> Any:
    """A client on ``machine`` that calls the server by ``address``."""
    from starlette.testclient import TestClient

    return TestClient(app, base_url=address, client=(machine, 5000), follow_redirects=False, raise_server_exceptions=True)


def every_route(routes: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route, those of mounted applications too, parameters filled in."""
    for route in routes:
        if isinstance(route, Mount):
            yield from every_route(route.routes, prefix + route.path)
        elif hasattr(route, "path"):
            path = prefix + re.sub(r"\{[^}]+\}", "1", route.path)
            yield from ((method, path) for method in sorted(getattr(route, "methods", None) or {"GET"}))
        else:
            yield from every_route(route.original_router.routes, prefix)
