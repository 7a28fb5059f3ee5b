"""The web server: our own routes, the Gradio pages mounted beside them, one guard before all of it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request

from app.accounts import Accounts, Sessions
from app.announcements import UploadLimits
from app.arrivals import Arrivals
from app.bodies import LARGEST_FORM_BYTES, BodyLimit, Uploads
from app.deep_zoom import DeepZoom
from app.downloads import sweep_scratch
from app.ownership import Ownership
from app.routes import (
    curve,
    downloads,
    evaluations,
    health,
    hits,
    login,
    ml_backend,
    reports,
    scenes,
    signed,
    spending,
    tiles,
    training,
    uploads,
    web,
    webhooks,
)
from app.security import USER, Access, Guard, require_accounts
from app.settings import Settings
from app.signing import Signer, ml_backend_secret, webhook_secret
from app.suggester import suggester_of
from app.tile_pictures import TilePictures
from engine.catalog.workspace import Workspace
from engine.errors import UsageError

if TYPE_CHECKING:
    import gradio

    from app.jobs import Jobs
    from app.pages.context import PageContext

__all__ = ["LOOPBACK", "create_app", "serve"]

LOOPBACK = "127.0.0.1"
SECONDS_TO_CLOSE = 2
EVERY_JOB = 1_000_000
SECONDS_TO_FIRST_PAGE = 4.0
"""What the first page needs goes before what the first job needs."""


def create_app(
    workspace: Workspace,
    settings: Settings,
    *,
    jobs: Jobs,
    host: str = LOOPBACK,
    read_only: Callable[[], str | None] = lambda: None,
    pages: Callable[[PageContext], gradio.Blocks] | None = None,
) -> FastAPI:
    """The application for ``workspace``; every route, Gradio's too, is behind :class:`app.security.Guard`.

    Args:
        workspace: what is shown.
        settings: the service's.
        jobs: client of the job store.
        host: where the server is going to listen: it decides whether a login is needed.
        read_only: why nothing may be changed at the moment; None where this app is in charge.
        pages: makes what Gradio shows; None for the site of :mod:`app.pages.site`.

    Raises:
        UsageError: it is going to be reached from elsewhere, and there is no account.
    """
    access = Access.of(host, settings.public_url)
    accounts, signer = Accounts(workspace), Signer.of(workspace)
    require_accounts(access, accounts.names(), settings.public_url or host)
    sessions, pictures, in_one_go = Sessions(accounts, signer), TilePictures(workspace), Uploads(workspace)
    app = FastAPI(title="Tilehawk", docs_url=None, redoc_url=None, openapi_url=None)
    for router in (
        health.router(),
        login.router(accounts, sessions, access, secure=(settings.public_url or "").startswith("https:")),
        web.router(),
        uploads.router(Arrivals(workspace, UploadLimits.of(settings))),
        tiles.router(pictures),
        scenes.router(workspace, DeepZoom(pictures, workspace)),
        signed.router(pictures, signer),
        hits.router(workspace, pictures),
        curve.router(workspace),
        evaluations.router(workspace),
        training.router(workspace),
        reports.router(workspace),
        spending.router(workspace, pictures),
        downloads.router(workspace),
        webhooks.router(jobs, webhook_secret(workspace)),
        ml_backend.router(workspace, jobs, suggester_of(workspace, settings), ml_backend_secret(workspace)),
    ):
        app.include_router(router)
    _prepare_gradio(in_one_go)
    from app.pages.context import PageContext, operator

    role_of = sessions.role if access.login else operator
    _mount(app, PageContext(workspace, jobs, settings, read_only, local=not access.login, role_of=role_of), pages)
    app.add_middleware(BodyLimit, uploads=in_one_go, upload_bytes=_form_bytes(settings), reserve_bytes=settings.reserve_bytes)
    app.add_middleware(Guard, access=access, user_of=sessions.user, role_of=role_of, read_only=read_only)
    return app


def serve(workspace: Workspace, *, host: str, port: int, worker: bool, settings: Settings) -> None:
    """Serve until the user stops it; with ``worker`` a worker is kept running beside it, while this app is in charge.

    Raises:
        UsageError: the port is taken, or others can reach it and there is no account.
    """
    import uvicorn

    from app.jobs import Jobs
    from app.supervisor import Supervisor
    from app.workflows.verbs import load_all

    access = Access.of(host, settings.public_url)
    require_accounts(access, Accounts(workspace).names(), settings.public_url or host)
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(host, port))
        port = listener.getsockname()[1]
        address = settings.public_url or f"http://{f'[{host}]' if ':' in host else host}:{port}"
        in_one_go, arrivals = Uploads(workspace), Arrivals(workspace, UploadLimits.of(settings))

        jobs = Jobs(workspace)
        stack.callback(jobs.close)
        beside = stack.enter_context(ExitStack())

        def in_charge() -> None:
            in_one_go.sweep()
            arrivals.sweep()
            arrivals.sweep_kept(lambda: jobs.list(limit=EVERY_JOB))
            sweep_scratch(workspace)
            if worker:
                beside.enter_context(Supervisor(workspace))

        ownership = Ownership(workspace, address, taken=in_charge)
        app = create_app(workspace, settings, jobs=jobs, host=host, read_only=ownership.read_only)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=SECONDS_TO_CLOSE, server_header=False)
        stack.enter_context(ownership)
        if reason := ownership.read_only():
            sys.stderr.write(f"{reason}\n")
        sys.stderr.write(f"Tilehawk is at {address} (Ctrl-C ends it)\n")
        stack.enter_context(_later(SECONDS_TO_FIRST_PAGE, load_all))
        uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _later(seconds: float, action: Callable[[threading.Event], None]) -> Iterator[None]:
    """Start ``action`` in a thread of its own after ``seconds``; it is told when the block ends before it does."""
    over = threading.Event()

    def wait() -> None:
        if not over.wait(seconds):
            action(over)

    threading.Thread(target=wait, daemon=True, name="loading the verbs").start()
    try:
        yield
    finally:
        over.set()


def _prepare_gradio(uploads: Uploads) -> None:
    """Say where uploads go: Gradio reads that from the environment, some of it while it is imported."""
    uploads.folder.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.folder)


def _mount(app: FastAPI, context: PageContext, pages: Callable[[PageContext], gradio.Blocks] | None) -> None:
    """Gradio's pages at ``/``, with all that a page does not need switched off."""
    import gradio as gr

    def user(request: Request) -> str | None:
        return request.scope.get(USER)

    style = head = ""
    if pages is None:
        from app.pages import site

        pages, style, head = site.build, site.STYLE, site.HEAD
    blocks = pages(context)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SSR mode is not supported")
        gr.mount_gradio_app(
            app,
            blocks,
            path="/",
            footer_links=[],
            allowed_paths=[],
            auth_dependency=user,
            max_file_size=_form_bytes(context.settings),
            show_error=False,
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            css=style,
            head=head,
        )
    blocks.has_launched = True  # or Gradio hands an event any file of this machine that a request names: it checks launched pages only


def _form_bytes(settings: Settings) -> int:
    """The most that an upload may hold that comes in one go."""
    return min(int(settings.upload_bytes), LARGEST_FORM_BYTES)


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as unknown:
        raise UsageError(f"the host {host!r}: {unknown.strerror}", expected="a name or address of this machine") from unknown
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as taken:
        listener.close()
        raise UsageError(
            f"port {port} on {host}: {taken.strerror}", expected="a free port", remedy="Choose another: --port 7861"
        ) from taken
    return listener
