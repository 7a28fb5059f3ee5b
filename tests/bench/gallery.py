"""How quick the page Imagery is with 100,000 tiles: each filter by itself, and the whole page in Chromium. Run it on a quiet machine.

    python tests/bench/gallery.py docs/benchmarks/annotators/gallery.json
    python tests/bench/gallery.py out.json --without-browser

The catalog is made of rows: 1,000 scenes of 100 tiles, 100 boxes of three classes a scene, a fifth of the tiles looked at, one round of
2,000 tiles; the pictures behind it are ten small ones. Wall-clock and processor seconds are written apart: beside other work only the
second say something of the code.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from service import ARGUMENTS, figure, next_page, page_of_100, serving

SCENES, ACROSS, TILE = 1000, 10, 32
BOXES = 100
CLASSES = {"common": 0.9, "seldom": 0.09, "rare": 0.01}
REVIEWED, CHOSEN = 20_000, 2000
PICTURES = 10
REPEATS = 5


def fill(folder: Path) -> Path:
    """The workspace of rows."""
    from sqlalchemy import insert

    from engine.catalog.annotations import set_label_set
    from engine.catalog.rounds import ChosenTile, add_round
    from engine.catalog.schema import Annotation, Review, Scene, Source, Tile
    from engine.catalog.workspace import Workspace

    generator, side = np.random.default_rng(0), ACROSS * TILE
    files = [folder / f"{index}.png" for index in range(PICTURES)]
    for file in files:
        Image.fromarray(generator.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(file)
    corners = generator.uniform(0, side - 6, (SCENES, BOXES, 2))
    labels = generator.choice(len(CLASSES), (SCENES, BOXES), p=list(CLASSES.values()))
    reviewed = generator.permutation(SCENES * ACROSS**2)[:REVIEWED] + 1
    with Workspace.create(folder / "workspace") as workspace, workspace.session() as session:
        set_label_set(session, CLASSES)
        session.add(Source(id=1, name="rows", kind="folder", identity="rows", config={}, state="done"))
        session.flush()
        scene = {"source_id": 1, "referenced": True, "width": side, "height": side, "bands": 3, "dtype": "uint8"}
        session.execute(
            insert(Scene),
            [
                {"id": each + 1, "name": f"flight-{each % 7}/{each:05}.png", "content_hash": f"{each:064x}", **scene}
                | {"path": str(files[each % PICTURES])}
                for each in range(SCENES)
            ],
        )
        splits = ("train", "train", "train", "dev", "test")
        session.execute(
            insert(Tile),
            [
                {"scene_id": each + 1, "x": column * TILE, "y": row * TILE, "width": TILE, "height": TILE}
                | {"content_hash": f"{each:032x}{row:016x}{column:016x}", "split": splits[each % len(splits)]}
                for each in range(SCENES)
                for row in range(ACROSS)
                for column in range(ACROSS)
            ],
        )
        session.execute(
            insert(Annotation),
            [
                {"scene_id": each + 1, "x1": x, "y1": y, "x2": x + 6, "y2": y + 6, "label": label, "source": "rows"}
                for each in range(SCENES)
                for (x, y), label in zip(corners[each].tolist(), labels[each].tolist(), strict=True)
            ],
        )
        session.execute(insert(Review), [{"tile_id": tile_id, "by": "rows"} for tile_id in reviewed.tolist()])
        chosen = [ChosenTile(tile_id, 1.0, 1.0, {}) for tile_id in reviewed[:CHOSEN].tolist()]
        add_round(session, budget_seconds=1.0, strategy="random", seed=0, chosen=chosen)
    return folder / "workspace"


def timed(action: Callable[[], Any]) -> dict[str, Any]:
    """Wall-clock and processor seconds of ``action``, repeated."""
    walls, processors = [], []
    for _ in range(REPEATS):
        begun, before = time.monotonic(), time.process_time()
        action()
        walls.append(time.monotonic() - begun)
        processors.append(time.process_time() - before)
    return {"wall": figure(walls), "processor": figure(processors)}


def filters(workspace: Path) -> dict[str, Any]:
    """Each filter as the page asks for it: tiles, scenes, what was set aside, and their HTML."""
    from app.pages import imagery
    from app.pages.context import PageContext
    from app.settings import Settings
    from engine.catalog.workspace import Workspace

    every = {"number": 1, "split": imagery.EVERY_SPLIT, "seen": "all", "scene": "", "shows": imagery.EVERY_CLASS}
    every |= {"chosen_in": imagery.EVERY_ROUND, "scenes": 1}
    asked: dict[str, dict[str, Any]] = {
        "first page": {},
        "last page": {"number": 1000, "scenes": 50},
        "training ground": {"split": "train"},
        "not looked at, page 700": {"seen": "not yet", "number": 700},
        "part of a scene's name": {"scene": "FLIGHT-3"},
        "chosen in round 1": {"chosen_in": "1"},
        **{f"shows {name}": {"shows": name} for name in CLASSES},
    }
    with Workspace.open(workspace) as opened:
        actions = imagery.Actions(PageContext(opened, None, Settings()))  # type: ignore[arg-type]  # no job is asked for
        return {name: timed(lambda chosen=chosen: actions.show(**{**every, **chosen})) for name, chosen in asked.items()}


IN_VIEW = """[...document.querySelectorAll('#tiles img')].filter(image => image.getBoundingClientRect().top < innerHeight)
    .every(image => image.complete && image.naturalWidth > 0)"""


def until_in_view(tab: Any, address: str) -> float:
    """Seconds of a first visit until every tile that a person sees without scrolling is drawn."""
    begun = time.monotonic()
    tab.goto(f"{address}/imagery", wait_until="commit")
    tab.wait_for_function("document.querySelectorAll('#tiles img').length === 100")
    tab.wait_for_function(IN_VIEW)
    return time.monotonic() - begun


def in_chromium(workspace: Path) -> dict[str, Any]:
    """Seconds until the tiles in view and until all 100 are drawn: a first visit with a cold cache, one after it, and from page to page."""
    from playwright.sync_api import sync_playwright

    with serving(workspace) as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        visits, leaves, seen, again = [], [], [], []
        for _ in range(REPEATS + 1):
            tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            tab.set_default_timeout(120_000)
            visits.append(page_of_100(tab, address))
            leaves.append(next_page(tab))
            tab.close()
            tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            tab.set_default_timeout(120_000)
            seen.append(until_in_view(tab, address))
            tab.goto(address)
            tab.wait_for_selector("h1")
            again.append(until_in_view(tab, address))
            tab.close()
        browser.close()
    return {
        "visit_until_in_view": figure(seen[1:]),
        "visit_again_from_another_page_until_in_view": figure(again[1:]),
        "visit_cold_cache": figure(visits[1:]),
        "leaf_to_another_page_of_tiles": figure(leaves[1:]),
    }


def main(out: Path, *, browser: bool) -> None:
    from app.settings import prepare_environment

    prepare_environment()
    with tempfile.TemporaryDirectory() as folder:
        workspace = fill(Path(folder))
        document = {
            "command": f"python tests/bench/gallery.py {out.name}{'' if browser else ' --without-browser'}",
            "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
            "load_at_the_begin": os.getloadavg()[0],
            "versions": {name: importlib.metadata.version(name) for name in ("gradio", "sqlalchemy", "numpy", "playwright")},
            "tiles": SCENES * ACROSS**2,
            "boxes": SCENES * BOXES,
            "seconds": {"filters": filters(workspace), "chromium": in_chromium(workspace) if browser else None},
            "load_at_the_end": os.getloadavg()[0],
        }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document["seconds"], indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), browser="--without-browser" not in sys.argv)
