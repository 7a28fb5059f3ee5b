"""A real Chromium runs nothing of what names, labels and errors hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.pages import site
from engine.boxes import Boxes
from engine.catalog.models import add_model
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile
from engine.stages.ingest import IngestConfig, ingest
from engine.stages.labels import LabelConfig, import_labels

pytestmark = [pytest.mark.browser, pytest.mark.guarantee("G34"), pytest.mark.timeout(900)]

CANARY = "<img src=x onerror='window.canary = 1'>"
VECTOR = '"><svg onload="window.canary = 1">'


@pytest.fixture(scope="module")
def address(tmp_path_factory, serve):
    folder = tmp_path_factory.mktemp("imagery")
    names = [f"{CANARY}.png", f"{VECTOR}.png"]
    for seed, name in enumerate(names):
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(folder / name)
    (folder / f"{CANARY} broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    boxes = Boxes(np.array([[2, 2, 20, 20], [40, 44, 60, 60]]), np.array([0, 1]))
    labels = LabelFile(LabelSet.of([CANARY, VECTOR]), tuple(ImageLabels(name, 96, 96, boxes) for name in names))
    with Workspace.create(tmp_path_factory.mktemp("hostile") / "workspace") as workspace:
        ingest(workspace, folder, IngestConfig(tile=32, overlap=0))
        import_labels(workspace, labels, LabelConfig())
        with workspace.session() as session:
            chosen = [ChosenTile(tile.id, 1.0, 30.0, {"why": CANARY}) for tile in tiles(session, split="train")[:3]]
            add_round(session, budget_seconds=60.0, strategy=VECTOR, seed=0, chosen=chosen)
            add_model(session, name=CANARY, stage="finetune", config={}, data_hash="0" * 64, metrics={"test": {"ap": 0.1, "ap50": 0.2}})
        with serve(workspace, "--no-worker") as served:
            yield served


SHOWN_AT = {"": "#counts", "imagery": "#tiles", "rounds": "#round-tiles", "scene?scene=1": "body"}
"""Where names stand on a page: it is looked at once they are there. Of the others the title is waited for."""


def test_no_page_runs_a_name(browser: Any, address: str):
    page = browser.new_page(base_url=address)
    page.set_default_timeout(120_000)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for path in (*site.PAGES, "scene?scene=1", "review?tile=1"):
        page.goto(f"/{path}")
        if path in SHOWN_AT:
            page.wait_for_function("place => document.querySelector(place)?.innerText.includes('window.canary = 1')", arg=SHOWN_AT[path])
        else:
            page.wait_for_selector("h1")
        assert page.evaluate("window.canary") is None, path
        assert page.locator("img[src='x']").count() == 0, path
    assert dialogs == []
    page.close()
