"""A real Chromium, and the app as a process of its own."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.catalog.workspace import Workspace

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
SECONDS_TO_START = 240


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium through Playwright; the test is skipped where there is none.

    One a file, for Playwright keeps an event loop running in this thread until it is closed.
    """
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def visitor(fake: Callable[[str], ModuleType]) -> ModuleType:
    """What a person does at the pages."""
    return fake("visitor")


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """Run ``tilehawk app`` on a workspace as a process of its own while the block runs; gives its address."""
    return _serve


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., Any]) -> Iterator[tuple[str, Workspace]]:
    """``tilehawk app`` with its worker, on a new workspace."""
    with Workspace.create(tmp_path_factory.mktemp("browser") / "workspace") as workspace, serve(workspace) as address:
        yield address, workspace


@pytest.fixture
def page(browser: Any, service: tuple[str, Workspace]) -> Iterator[Any]:
    """A tab that may ask nobody but the app, and must not fail."""
    address, _ = service
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=address)
    tab = context.new_page()
    tab.set_default_timeout(120_000)
    asked: list[str] = []
    errors: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    context.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []


@pytest.fixture(scope="session")
def app_address(filled_workspace: Workspace) -> Iterator[str]:
    """The address of ``tilehawk app`` on the filled workspace, which nobody works on."""
    with _serve(filled_workspace, "--no-worker") as address:
        yield address


@contextlib.contextmanager
def _serve(workspace: Workspace, *options: str, port: int | None = None) -> Iterator[str]:
    if port is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    command = [sys.executable, "-m", "app.cli.main", "app", "--port", str(port), "--workspace", str(workspace.root), *options]
    log = workspace.root / "app.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{address}/health", server, log)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the app ended with {server.returncode}: {log.read_text()}")
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    server.kill()
    pytest.fail("the app did not start in time")
