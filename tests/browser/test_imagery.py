"""Uploads and deep zoom as a person meets them, in a real Chromium.

With ``TILEHAWK_SCREENSHOTS`` naming a folder, the pictures of the docs are written there.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.boxes import Boxes
from engine.catalog.annotations import mark_reviewed
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile
from engine.stages.ingest import IngestConfig, ingest
from engine.stages.labels import LabelConfig, import_labels

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

SECONDS = 1000.0
SIDE = 1024
FIRST_PIECES = 3
LOST = ": undefined"
"""What Gradio's page says when it is left, or the app behind it ends."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, fake: Callable[[str], ModuleType]) -> Iterator[Workspace]:
    """One generated scene of 2,048 px with boxes around its houses and cars, half of its tiles looked at."""
    folder = tmp_path_factory.mktemp("zoom")
    quarters = [fake("landscape").landscape(seed, side=SIDE) for seed in range(4)]
    rows = [np.concatenate([each.pixels for each in quarters[index : index + 2]], axis=1) for index in (0, 2)]
    (folder / "imagery").mkdir()
    Image.fromarray(np.concatenate(rows)).save(folder / "imagery" / "town.png", compress_level=1)
    corners = [np.array([column, row, column, row]) * SIDE for row in range(2) for column in range(2)]
    boxes, labels = [], []
    for each, corner in zip(quarters, corners, strict=True):
        for label, kind in enumerate((each.houses, each.cars)):
            boxes.append(np.asarray(kind, dtype=float).reshape(-1, 4) + corner)
            labels += [label] * len(kind)
    labelled = ImageLabels("town.png", 2 * SIDE, 2 * SIDE, Boxes(np.concatenate(boxes), np.array(labels)))
    with Workspace.create(folder / "workspace") as made:
        ingest(made, folder / "imagery", IngestConfig(tile=256, overlap=0))
        import_labels(made, LabelFile(LabelSet.of(["house", "<b>car</b>"]), (labelled,)), LabelConfig())
        with made.session() as session:
            known = tiles(session)
            mark_reviewed(session, [tile.id for tile in known[::2]], by="ana")
        yield made


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[[str], Any]]:
    """Open tabs that may ask nobody but the app, and must not fail."""
    contexts, asked, errors = [], [], []

    def made(address: str) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=address)
        contexts.append((context, address))
        context.set_default_timeout(120 * SECONDS)
        context.on("request", lambda request: asked.append((address, request.url)))
        context.on("weberror", lambda failed: errors.append(f"{failed.page.url}: {failed.error}"))
        context.on("dialog", lambda dialog: dialog.accept())
        return context.new_page()

    yield made
    for context, _ in contexts:
        context.close()
    assert [url for address, url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert [error for error in errors if not error.endswith(LOST)] == []


def keep_picture(page: Any, name: str) -> None:
    if folder := os.environ.get("TILEHAWK_SCREENSHOTS"):
        page.wait_for_timeout(2 * SECONDS)
        page.screenshot(path=Path(folder) / f"{name}.png")


class Line:
    """The browser's connection for pieces: it lets so many through, then it is cut; and where each piece began is noted."""

    def __init__(self, page: Any, *, pieces: int) -> None:
        self.left, self.offsets = pieces, []
        page.route(re.compile(r"/uploads/[0-9a-f]{32}$"), self._pass)

    def _pass(self, route: Any) -> None:
        if route.request.method != "PATCH":
            route.continue_()
        elif self.left > 0:
            self.left -= 1
            self.offsets.append(int(route.request.headers["upload-offset"]))
            route.continue_()
        else:
            route.abort("internetdisconnected")


def test_upload_goes_on_after_a_lost_connection_a_killed_app_and_in_another_tab(workspace, serve, open_page, tmp_path):
    archive = tmp_path / "thirty.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("noise.bin", np.random.default_rng(0).bytes(30_000_000))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    state = "#upload-imagery tilehawk-upload"
    with serve(workspace, "--no-worker", port=port) as address:
        page = open_page(address)
        page.goto("/imagery")
        line = Line(page, pieces=FIRST_PIECES)
        page.set_input_files("#upload-imagery input[type=file]", archive)
        page.locator(state).get_by_text("The connection is lost").wait_for()
        share = page.locator(f"{state} progress").evaluate("bar => bar.value")
        line.left = 1
        page.wait_for_function("([bar, share]) => document.querySelector(bar).value > share", arg=[f"{state} progress", share])
        os.kill(workspace.holder("app").pid, signal.SIGKILL)
    with serve(workspace, "--no-worker", port=port):
        page.close()
        page = page.context.new_page()
        page.goto("/imagery")
        page.locator(state).get_by_text("Choose the same file again").wait_for()
        again = Line(page, pieces=1000)
        page.set_input_files("#upload-imagery input[type=file]", archive)
        page.locator(f"{state}[data-state=complete]").wait_for()
        assert again.offsets[0] > line.offsets[-1] > 0, "nothing that had come is sent again"
        keep_picture(page, "upload")
        page.locator("#ingest").click()
        page.wait_for_function("document.querySelector('#news')?.innerText.includes('thirty.zip is queued')")
        page.locator(f"{state}[data-state=empty]").wait_for()
        page.close()
    (kept,) = workspace.uploads.glob("*/thirty.zip")
    assert hashlib.sha256(kept.read_bytes()).digest() == hashlib.sha256(archive.read_bytes()).digest()


def test_every_unfinished_upload_is_in_sight_and_can_be_removed(workspace, serve, open_page, tmp_path):
    names = ["first.zip", "second.zip"]
    for seed, name in enumerate(names):
        (tmp_path / name).write_bytes(np.random.default_rng(seed).bytes(3_000_000))
    here = "#upload-imagery tilehawk-upload"
    with serve(workspace, "--no-worker") as address:
        page = open_page(address)
        page.goto("/imagery")
        line = Line(page, pieces=1)
        for name in names:
            line.left = 1
            page.set_input_files("#upload-imagery input[type=file]", tmp_path / name)
            page.locator(here).get_by_text("The connection is lost").wait_for()
            page.locator(f"{here} > .upload-row").get_by_role("button", name="Pause").click()
        others = page.locator(f"{here} .upload-others")
        others.get_by_text("first.zip").wait_for()
        assert others.locator("strong").count() == 1
        page.reload()
        page.locator(f"{here} > .upload-row").get_by_text("second.zip").wait_for()
        others.get_by_role("button", name="Remove first.zip").click()
        others.locator("strong").wait_for(state="detached")
        page.set_input_files("#upload-imagery input[type=file]", tmp_path / "first.zip")
        page.locator(here).get_by_text("The connection is lost").wait_for()
        others.get_by_text("second.zip").wait_for()
        page.locator(f"{here} > .upload-row").get_by_role("button", name="Remove").click()
        page.locator(f"{here} > .upload-row").get_by_text("second.zip").wait_for()
        page.locator(f"{here} > .upload-row").get_by_role("button", name="Remove").click()
        page.locator(f"{here}[data-state=empty]").wait_for()
        page.close()
    assert list((workspace.uploads / "arriving").iterdir()) == []


def test_scene_is_looked_at_as_deep_as_its_pixels_go(workspace, serve, open_page):
    with serve(workspace, "--no-worker") as address:
        page = open_page(address)
        squares: list[str] = []
        page.on("response", lambda answer: squares.append(f"{answer.status} {answer.url}") if "/scenes/" in answer.url else None)
        page.goto("/imagery")
        page.locator("#scenes").get_by_role("link", name="town.png").click()
        page.wait_for_function("Number(document.querySelector('#map')?.dataset.shown) > 20")
        page.wait_for_function("[...document.querySelectorAll('.leaflet-tile')].every(tile => tile.complete && tile.naturalWidth === 256)")
        whole = int(page.locator("#map").get_attribute("data-shown"))
        assert page.locator("footer b").count() == 0
        assert "<b>car</b>" in page.locator("footer").inner_text()
        keep_picture(page, "scene")
        page.locator("#map").focus()
        for _ in range(4):
            page.keyboard.press("Equal")
            page.wait_for_timeout(0.5 * SECONDS)
        page.wait_for_function("whole => Number(document.querySelector('#map').dataset.shown) < whole", arg=whole)
        page.wait_for_function(
            "[...document.querySelectorAll('.leaflet-tile')].some(tile => tile.src.includes('/3/') && tile.naturalWidth === 256)"
        )
        keep_picture(page, "scene-near")
        middle = page.locator("#map").bounding_box()
        page.mouse.click(middle["x"] + middle["width"] / 2 + 20, middle["y"] + middle["height"] / 2 + 20)
        page.wait_for_url(re.compile(r"/review\?tile=\d+"))
        assert squares
        assert {answer[:3] for answer in squares} <= {"200", "304"}
        page.close()
