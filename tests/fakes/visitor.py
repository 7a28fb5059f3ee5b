"""What a person does at the pages in a real Chromium: upload, press, draw, wait for a job, look."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from app.jobs import Jobs
from app.pages.jobs import SHORT_ID
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace

SECONDS = 1000.0
JOB_SECONDS = 480 * SECONDS
ENDS = ("done", "failed", "cancelled")
SIDE = 640
"""Pixels of a generated scene."""


def keep_picture(page: Any, name: str, *, whole: bool = False) -> None:
    """A picture of the page, where ``TILEHAWK_SCREENSHOTS`` names a folder for them."""
    if folder := os.environ.get("TILEHAWK_SCREENSHOTS"):
        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_timeout(2 * SECONDS)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=whole)


def news(page: Any, words: str) -> None:
    """Wait until the line of news says ``words``."""
    page.wait_for_function("words => document.querySelector('#news')?.innerText.includes(words)", arg=words)


def upload(page: Any, component: str, file: Path) -> None:
    """Choose ``file`` in ``component``, and wait until the app holds all of it."""
    page.set_input_files(f"{component} input[type=file]", file)
    page.locator(f"{component} [data-state=complete]").wait_for()


def known_jobs(workspace: Workspace) -> list[str]:
    """The numbers of all jobs so far, as the pages show them."""
    with Jobs(workspace) as jobs:
        return [job.id[:SHORT_ID] for job in jobs.list()]


def wait_for_job(page: Any, verb: str, state: str = "done", *, besides: Sequence[str] = (), ends: Sequence[str] = ENDS) -> None:
    """Wait until the newest job, one ``besides`` those known, has come to an end, which must be ``state``."""
    ended = """([verb, states, known]) => {
        const cells = document.querySelector('#jobs tbody tr')?.cells
        return cells?.[0].innerText === verb && states.includes(cells[1].innerText) && !known.includes(cells[5].innerText)
    }"""
    page.wait_for_function(ended, arg=[verb, list(ends), list(besides)], timeout=JOB_SECONDS)
    assert page.locator("#jobs tbody tr").first.locator("td").nth(1).inner_text() == state, page.locator("#jobs").inner_text()


def drawing(page: Any) -> Any:
    """The surface once it shows a picture, takes boxes and lies still: its box on the page."""
    canvas = page.locator("#drawing canvas").first
    canvas.wait_for()
    page.wait_for_function("document.querySelector('#drawing canvas').height > 300 && !document.querySelector('#drawing.waits')")
    canvas.scroll_into_view_if_needed()
    lies_still = """looks => {
        const {x, y, width, height} = document.querySelector('#drawing canvas').getBoundingClientRect()
        const place = [x, y, width, height].join(), seen = window.placeOfSurface
        window.placeOfSurface = seen?.place === place ? {place, looks: seen.looks + 1} : {place, looks: 0}
        return window.placeOfSurface.looks >= looks
    }"""
    page.wait_for_function(lies_still, arg=5, polling=100)
    return canvas.bounding_box()


def draw(page: Any, box: tuple[float, float, float, float], *, tile: int = 320, enlarged: int = 2) -> None:
    """Draw a box given in tile pixels on a tile that is shown ``enlarged``, no quicker than the page can follow."""
    surface = drawing(page)
    left = surface["x"] + (surface["width"] - tile * enlarged) / 2
    x1, y1, x2, y2 = (side * enlarged for side in box)
    for x, y, act in (
        (x1, y1, None),
        (x1, y1, page.mouse.down),
        ((x1 + x2) / 2, (y1 + y2) / 2, None),
        (x2, y2, None),
        (x2, y2, page.mouse.up),
    ):
        page.mouse.move(left + x, surface["y"] + y)
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        if act is not None:
            act()


def open_tile(page: Any, path: str, tile_id: int) -> None:
    """Visit a page on a tile, until the page shows that tile."""
    page.goto(f"/{path}?tile={tile_id}")
    page.wait_for_function("id => document.querySelector('#tile-number input')?.value === String(id)", arg=tile_id)
    drawing(page)


def pictures_loaded(page: Any, places: str, *, fewest: int) -> None:
    """Wait until at least ``fewest`` of the pictures at ``places``, a CSS selector, are there, and none is broken."""
    shown = f"[...document.querySelectorAll({places!r})]"
    page.wait_for_function(f"{shown}.length >= {fewest} && {shown}.slice(0, 12).every(img => img.complete && img.naturalWidth > 0)")


def objects_in(fake: Callable[[str], ModuleType], scene_name: str, x: float, y: float, kind: str) -> Any:
    """(N, 4) boxes of the generated objects of a kind, seen from the corner of a tile of a scene named with its seed."""
    scene = fake("landscape").landscape(int(re.findall(r"\d+", scene_name)[0]), side=SIDE)
    return getattr(scene, kind) - np.array([x, y] * 2)


def objects_inside(workspace: Workspace, fake: Callable[[str], ModuleType], kind: str) -> list[tuple[int, list[float]]]:
    """(tile id, box in tile pixels) of generated objects that lie whole in a tile of the training ground."""
    with workspace.session(write=False) as session:
        known = tiles(session, split="train")
    return [
        (tile.id, box.tolist())
        for tile in known
        for box in objects_in(fake, tile.scene_name, tile.window.x, tile.window.y, kind)
        if box.min() >= 6 and box.max() <= 314
    ]
