"""The web server: our own routes, the Gradio page mounted beside them, one guard before all of it."""

from __future__ import annotations

import socket
import sys

import gradio as gr
import uvicorn
from fastapi import FastAPI

from app.pages import overview
from app.routes import curve, health, tiles
from app.security import LoopbackOnly
from engine.catalog.workspace import Workspace
from engine.errors import UsageError

__all__ = ["create_app", "serve"]

ADDRESS = "127.0.0.1"
SECONDS_TO_CLOSE = 2


def create_app(workspace: Workspace) -> FastAPI:
    """The application for ``workspace``; every route, Gradio's too, is behind :class:`LoopbackOnly`."""
    app = FastAPI(title="Tilehawk", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(health.router())
    app.include_router(tiles.router(workspace))
    app.include_router(curve.router(workspace))
    gr.mount_gradio_app(
        app,
        overview.page(workspace),
        path="/",
        footer_links=[],
        allowed_paths=[],
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
    )
    app.add_middleware(LoopbackOnly)
    return app


def serve(workspace: Workspace, *, port: int) -> None:
    """Serve until the user stops it.

    Raises:
        UsageError: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ADDRESS, port))
    except OSError as taken:
        listener.close()
        raise UsageError(
            f"port {port} on {ADDRESS}: {taken.strerror}", expected="a free port", remedy="Choose another: --port 7861"
        ) from taken
    config = uvicorn.Config(create_app(workspace), log_level="warning", timeout_graceful_shutdown=SECONDS_TO_CLOSE)
    sys.stderr.write(f"Tilehawk is at http://{ADDRESS}:{port} (Ctrl-C ends it)\n")
    uvicorn.Server(config).run(sockets=[listener])
