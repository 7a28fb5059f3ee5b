"""The pages Review and Find by keyboard, in a real Chromium; only boxes are drawn with the mouse.

With ``TILEHAWK_SCREENSHOTS`` naming a folder, pictures of both pages are written there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.catalog.annotations import set_label_set
from engine.catalog.history import tile_history
from engine.catalog.models import add_model
from engine.catalog.predictions import add_prediction_set, predictions_directory
from engine.catalog.reviews import tile_state
from engine.catalog.searches import FoundHit, add_search, hits, searches
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.inference.predictions import Predictions
from engine.stages.ingest import IngestConfig, ingest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

SECONDS = 1000.0
TILE, ENLARGED = 320, 2
SUGGESTED = ((20.0, 20.0, 60.0, 60.0), (100.0, 20.0, 140.0, 60.0))
DRAWN = (200.0, 200.0, 260.0, 250.0)
WIDTHS = ({"width": 1280, "height": 900}, {"width": 1920, "height": 1080})


@pytest.fixture(scope="module")
def service(tmp_path_factory: Any, fake: Callable[[str], ModuleType], serve: Callable[..., Any]) -> Iterator[tuple[str, Workspace]]:
    """The app on generated scenes: two suggestions on every tile, and a search with eight look-alikes."""
    folder = tmp_path_factory.mktemp("keyboard")
    (folder / "imagery").mkdir()
    for seed in range(4):
        Image.fromarray(fake("landscape").landscape(seed, side=640).pixels).save(folder / "imagery" / f"scene-{seed}.png")
    with Workspace.create(folder / "workspace") as workspace:
        ingest(workspace, folder / "imagery", IngestConfig(tile=TILE, overlap=0))
        fill(workspace)
        with serve(workspace, "--no-worker") as address:
            yield address, workspace


def fill(workspace: Workspace) -> None:
    with workspace.session() as session:
        fingerprint = set_label_set(session, ["house", "car", "boat"]).fingerprint
        known = tiles(session, split="train")
        model = add_model(session, name="d", stage="finetune", config={}, data_hash="0" * 64, label_set_fingerprint=fingerprint)
        boxes = np.tile(np.asarray(SUGGESTED, dtype=np.float32), (len(known), 1))
        Predictions(
            tile_ids=np.asarray([tile.id for tile in known]),
            embeddings=np.zeros((len(known), 2), dtype=np.float32),
            tile_index=np.repeat(np.arange(len(known)), len(SUGGESTED)),
            boxes_tile=boxes,
            labels=np.zeros(len(boxes), dtype=np.int64),
            scores=np.full(len(boxes), 0.8, dtype=np.float32),
            class_scores=np.zeros((len(boxes), 3), dtype=np.float32),
            drift=np.zeros(len(boxes), dtype=np.float32),
        ).save(predictions_directory(workspace, "d-train"))
        add_prediction_set(session, name="d-train", model=model, tiles=len(known))
        taught = add_model(session, name="p", stage="pretrain", config={}, data_hash="1" * 64)
        found = [
            FoundHit(known[index % len(known)].id, (40.0 + 8 * index, 60, 70.0 + 8 * index, 90), 0.9 - index / 20) for index in range(8)
        ]
        asked = {"fingerprint": "f", "tile_id": known[0].id, "box_tile": (1.0, 1.0, 30.0, 30.0), "config": {}}
        add_search(session, **asked, model_id=taught.id, found=found)


@pytest.fixture
def page(browser: Any, service: tuple[str, Workspace]) -> Iterator[Any]:
    """A tab that asks nobody but the app, and must not fail."""
    address, _ = service
    context = browser.new_context(viewport=WIDTHS[0], base_url=address)
    tab = context.new_page()
    tab.set_default_timeout(120 * SECONDS)
    errors: list[str] = []
    asked: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    yield tab
    context.close()
    assert errors == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def settled(page: Any, tile: int | None = None) -> int:
    """Wait until the page Review shows a tile, that one or any, and takes keys; returns its number."""
    page.wait_for_function(
        """tile => {
            const shown = document.querySelector("#tile-number input")?.value, surface = document.querySelector("#drawing");
            return shown && (tile === null || shown === String(tile)) && location.search === `?tile=${shown}`
                && surface?.querySelector("canvas")?.height > 300 && !surface.classList.contains("waits");
        }""",
        arg=tile,
    )
    return int(page.locator("#tile-number input").input_value())


def said(page: Any, words: str) -> None:
    page.wait_for_function("words => document.querySelector('#said')?.innerText.includes(words)", arg=words)


def news(page: Any, words: str) -> None:
    page.wait_for_function("words => document.querySelector('#news')?.innerText.includes(words)", arg=words)


def unsaved(page: Any, is_shown: bool) -> None:
    page.wait_for_function("shown => document.querySelector('#unsaved')?.hidden === !shown", arg=is_shown)


def draw(page: Any, box: tuple[float, ...] = DRAWN) -> None:
    """Draw a box given in tile pixels, the surface in whatever mode."""
    page.keyboard.press("c")
    surface = page.locator("#drawing canvas").bounding_box()
    left = surface["x"] + (surface["width"] - TILE * ENLARGED) / 2
    x1, y1, x2, y2 = (side * ENLARGED for side in box)
    page.mouse.move(left + x1, surface["y"] + y1)
    page.mouse.down()
    page.mouse.move(left + (x1 + x2) / 2, surface["y"] + (y1 + y2) / 2)
    page.mouse.move(left + x2, surface["y"] + y2)
    page.mouse.up()
    unsaved(page, True)


def boxes_of(workspace: Workspace, tile: int) -> list[tuple[int, list[float]]]:
    """(class, box) of what is accepted on a tile."""
    with workspace.session(write=False) as session:
        state = tile_state(session, tile)
    return list(zip(state.boxes_tile.labels.tolist(), state.boxes_tile.xyxy.tolist(), strict=True))


def keep_picture(page: Any, name: str) -> None:
    for size in WIDTHS:
        page.set_viewport_size(size)
        page.wait_for_timeout(SECONDS)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} scrolls sideways at {size['width']}"
        if folder := os.environ.get("TILEHAWK_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{size['width']}.png")
    page.set_viewport_size(WIDTHS[0])


def unnamed(page: Any) -> list[str]:
    """Fields and buttons in view that have no name for somebody who cannot see them."""
    return page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea")].filter(part => part.offsetParent !== null
            && !(part.innerText || part.getAttribute("aria-label") || part.title || part.placeholder || part.labels?.length
                 || part.getAttribute("aria-labelledby"))).map(part => part.outerHTML.slice(0, 200))"""
    )


def test_three_tiles_are_reviewed_by_keys(page: Any, service: tuple[str, Workspace]) -> None:
    _, workspace = service
    page.goto("/review")
    done = []
    for digit in (3, 2, 1):
        tile = settled(page)
        assert tile not in done
        draw(page)
        page.keyboard.press(str(digit))
        said(page, "The box is a")
        page.keyboard.press("Enter")
        news(page, f"Tile {tile} saved as complete: 3 added")
        done.append(tile)
    settled(page)
    for digit, tile in zip((3, 2, 1), done, strict=True):
        with workspace.session(write=False) as session:
            assert tile_state(session, tile).reviewed
        labels = [label for label, box in boxes_of(workspace, tile) if np.abs(np.asarray(box) - DRAWN).max() <= 1.0]
        assert labels == [digit - 1]
    for tile in reversed(done):
        page.keyboard.press("p")
        settled(page, tile)


def test_undo_restores_boxes_and_what_is_not_saved_survives_leaving_and_a_reload(page: Any, service: tuple[str, Workspace]) -> None:
    _, workspace = service
    page.goto("/review")
    tile = settled(page)
    page.keyboard.press("x")
    said(page, "2 suggestions dropped")
    page.keyboard.press("z")
    unsaved(page, False)
    page.keyboard.press("a")
    said(page, "Accepted; 1 suggestion is left")
    draw(page)
    page.keyboard.press("Delete")
    said(page, "Box deleted")
    unsaved(page, False)
    page.keyboard.press("z")
    unsaved(page, True)
    page.keyboard.press("n")
    other = settled(page, next_of(page, tile))
    said(page, f"Tile {tile} has changes that are not saved")
    assert boxes_of(workspace, tile) == boxes_of(workspace, other) == []
    page.keyboard.press("p")
    settled(page, tile)
    said(page, "What you drew here and did not save is back")
    page.reload()
    settled(page, tile)
    unsaved(page, True)
    page.keyboard.press("z")
    unsaved(page, False)
    page.keyboard.press("y")
    unsaved(page, True)
    page.keyboard.press("s")
    news(page, f"Tile {tile} saved: 3 added")
    unsaved(page, False)
    page.reload()
    settled(page, tile)
    unsaved(page, False)
    assert sorted(label for label, _ in boxes_of(workspace, tile)) == [0, 0, 0]
    keep_picture(page, "review-keys")
    assert unnamed(page) == []


def next_of(page: Any, tile: int) -> int:
    """The number of the tile that the page shows, once it is another."""
    page.wait_for_function("tile => !['', String(tile)].includes(document.querySelector('#tile-number input').value)", arg=tile)
    return int(page.locator("#tile-number input").input_value())


def test_an_earlier_version_is_saved_again_from_the_history(page: Any, service: tuple[str, Workspace]) -> None:
    _, workspace = service
    page.goto("/review")
    tile = settled(page)
    page.keyboard.press("s")
    news(page, f"Tile {tile} saved")
    before = boxes_of(workspace, tile)
    draw(page, (150.0, 150.0, 190.0, 190.0))
    page.keyboard.press("s")
    news(page, "1 added")
    page.locator("#history button").first.click()
    page.wait_for_function("document.querySelector('#version input')?.value.includes('local')")
    page.locator("#go-back").click()
    news(page, "What it was until now is in its history")
    settled(page, tile)
    assert boxes_of(workspace, tile) == before
    with workspace.session(write=False) as session:
        assert tile_history(session, tile)[0].changes == {"removed": 1}


def test_five_look_alikes_are_decided_by_keys_and_a_reload_keeps_them(page: Any, service: tuple[str, Workspace]) -> None:
    _, workspace = service
    page.goto("/find")
    progress(page, "0 of 8 decided")
    for number, key in enumerate(("y", "y", "n", "y", "n"), start=1):
        page.keyboard.press(key)
        progress(page, f"{number} of 8 decided")
    page.keyboard.press("z")
    progress(page, "4 of 8 decided")
    asked = page.locator("#hit img").first.get_attribute("src")
    page.keyboard.press("Space")
    page.wait_for_function("asked => document.querySelector('#hit img').getAttribute('src') !== asked", arg=asked)
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("asked => document.querySelector('#hit img').getAttribute('src') === asked", arg=asked)
    page.keyboard.press("n")
    progress(page, "5 of 8 decided")
    page.reload()
    progress(page, "5 of 8 decided")
    with workspace.session(write=False) as session:
        assert [hit.decision for hit in hits(session, searches(session)[0].id)][:6] == ["yes", "yes", "no", "yes", "no", None]
    page.wait_for_function("[...document.querySelectorAll('#hit img')].every(img => img.complete && img.naturalWidth > 0)")
    keep_picture(page, "find-keys")
    assert unnamed(page) == []
    page.keyboard.press("?")
    page.locator("dialog.keys[open]").wait_for()
    page.keyboard.press("y")
    page.keyboard.press("Escape")
    page.locator("dialog.keys").wait_for(state="hidden")
    progress(page, "5 of 8 decided")
    page.locator("#yes").focus()
    for name in ("no", "back", "skip", "take-back"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == name


def progress(page: Any, words: str) -> None:
    page.wait_for_function("words => document.querySelector('#standing')?.innerText.includes(words)", arg=words)
