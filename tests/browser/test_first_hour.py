"""A first hour in a real Chromium: from an archive to a detector and a layer of a map, with annotators in Label Studio.

With ``TILEHAWK_SCREENSHOTS`` naming a folder, the pictures of the page "the first hour" are written there.
"""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.catalog.annotations import tile_boxes
from engine.catalog.remote import tasks_of
from engine.catalog.schema import RemoteProject
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace

Fake = Callable[[str], ModuleType]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(2400)]

SCENES = 6
KINDS = {"house": "houses", "car": "cars"}
PERCENT_OF_A_TILE = 100 / 320
LITTLE = {"pretrain-images": "24", "finetune-images": "16"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, fake: Fake) -> Path:
    """A zip of generated scenes, and beside it labels of all of them."""
    visitor = fake("visitor")
    folder = tmp_path_factory.mktemp("archive")
    images, annotations = [], []
    with zipfile.ZipFile(folder / "flight.zip", "w") as target:
        for seed in range(SCENES):
            encoded = BytesIO()
            Image.fromarray(fake("landscape").landscape(seed, side=visitor.SIDE).pixels).save(encoded, "PNG")
            target.writestr(f"scene-{seed}.png", encoded.getvalue())
            images.append({"id": seed, "file_name": f"scene-{seed}.png", "width": visitor.SIDE, "height": visitor.SIDE})
            for category, kind in enumerate(KINDS.values(), start=1):
                for x1, y1, x2, y2 in visitor.objects_in(fake, f"scene-{seed}", 0, 0, kind).tolist():
                    box = [x1, y1, x2 - x1, y2 - y1]
                    annotations.append({"id": len(annotations), "image_id": seed, "category_id": category, "bbox": box})
    categories = [{"id": number, "name": name} for number, name in enumerate(KINDS, start=1)]
    (folder / "labels.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return folder / "flight.zip"


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.nightly)])
def people(request: pytest.FixtureRequest, fake: Fake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Those who annotate, and where: a Label Studio, real or fake."""
    with ExitStack() as stack:
        if request.param == "fake":
            url, token = stack.enter_context(fake("label_studio_server").serving()).url, fake("label_studio_server").TOKEN
        else:
            real = fake("real_label_studio")
            try:
                found = stack.enter_context(real.serving(tmp_path_factory.mktemp("label-studio")))
            except real.Unavailable as reason:
                pytest.skip(str(reason))
            url, token = found.url, found.token
        made = fake("annotators").Annotators(url, token)
        stack.callback(made.close)
        yield made


def fill(page: Any, element: str, value: str) -> None:
    page.locator(f"#{element} input").fill(value)


def accepted(workspace: Workspace, tile_id: int) -> Any:
    """(N, 4) accepted boxes of a tile."""
    with workspace.session(write=False) as session:
        return tile_boxes(session, tiles(session, ids=[tile_id]))[tile_id].xyxy


def everything_answered(workspace: Workspace, people: Any, fake: Fake) -> int:
    """Annotators draw what there is on every tile that was sent to them; returns how many tiles."""
    with workspace.session(write=False) as session:
        (project,) = session.query(RemoteProject).all()
        sent = {int(row.remote_id): tile for tile, row in tasks_of(session, project).items()}
        records = {tile.id: tile for tile in tiles(session, ids=list(sent.values()))}
    for task, tile_id in sent.items():
        tile = records[tile_id]
        regions = []
        for name, kind in KINDS.items():
            for box in fake("visitor").objects_in(fake, tile.scene_name, tile.window.x, tile.window.y, kind).clip(0, 320).tolist():
                x1, y1, x2, y2 = (side * PERCENT_OF_A_TILE for side in box)
                if min(x2 - x1, y2 - y1) > 2:
                    regions.append(fake("annotators").rectangle(x1, y1, x2 - x1, y2 - y1, name, side=320))
        people.submit(task, [{**region, "id": f"r{number}"} for number, region in enumerate(regions)], lead_time=20.0 + len(regions))
    return len(sent)


def test_from_an_archive_to_a_layer_of_a_map(
    page: Any, service: tuple[str, Workspace], archive: Path, people: Any, fake: Fake, visitor: Any
) -> None:
    _, workspace = service

    page.goto("/imagery")
    visitor.upload(page, "#upload-imagery", archive)
    page.locator("#ingest").click()
    visitor.wait_for_job(page, "ingest")
    visitor.upload(page, "#upload-labels", archive.parent / "labels.json")
    page.get_by_label("Withhold those on training ground").check()
    page.locator("#labels-import").click()
    visitor.wait_for_job(page, "labels-import")
    visitor.pictures_loaded(page, "#tiles img", fewest=20)
    visitor.keep_picture(page, "hour-1-imagery")

    page.goto("/training")
    fill(page, "pretrain-images", LITTLE["pretrain-images"])
    page.locator("#pretrain").click()
    visitor.wait_for_job(page, "pretrain")
    visitor.pictures_loaded(page, "#curves img, #training-pictures img", fewest=2)
    visitor.keep_picture(page, "hour-2-pretrain", whole=True)

    (tile, box), *_ = visitor.objects_inside(workspace, fake, "houses")
    visitor.open_tile(page, "find", tile)
    visitor.draw(page, tuple(box))
    page.get_by_label("Look-alikes at most").fill("12")
    page.locator("#find").click()
    visitor.wait_for_job(page, "search")
    visitor.pictures_loaded(page, "#hits img, #hit img", fewest=4)
    visitor.keep_picture(page, "hour-3-find", whole=True)
    for _ in range(3):
        page.locator("#yes").click()
        visitor.news(page, "Kept as house")

    houses = visitor.objects_inside(workspace, fake, "houses")
    untouched = {tile_id: house for tile_id, house in houses if not len(accepted(workspace, tile_id))}
    (first, house), *others = list(untouched.items())[:3]
    visitor.open_tile(page, "review", first)
    visitor.draw(page, tuple(house))
    visitor.keep_picture(page, "hour-4-annotate")
    page.locator("#complete").click()
    visitor.news(page, f"Tile {first} saved as complete")
    assert np.abs(accepted(workspace, first) - house).max() <= 2, "drawn where the house is"
    for tile_id, _ in others:
        visitor.open_tile(page, "review", tile_id)
        page.locator("#complete").click()
        visitor.news(page, f"Tile {tile_id} saved as complete")

    page.goto("/training")
    fill(page, "finetune-images", LITTLE["finetune-images"])
    page.locator("#finetune").click()
    visitor.wait_for_job(page, "finetune")

    page.goto("/annotators")
    page.get_by_text("Connect a Label Studio server").click()
    page.locator("#server-url input, #server-url textarea").fill(people.url)
    page.locator("#server-token input").fill(people.token)
    page.locator("#connect").click()
    visitor.news(page, "Connected as")

    page.goto("/rounds")
    page.get_by_label("Annotator minutes to spend").fill("8")
    page.locator("#annotate input").click()
    page.get_by_role("option", name="people, in Label Studio").click()
    page.locator("#start-round").click()
    visitor.news(page, "The round is queued")
    visitor.wait_for_job(page, "round")
    visitor.pictures_loaded(page, "#round-tiles img", fewest=3)
    visitor.keep_picture(page, "hour-5-round", whole=True)
    answered = everything_answered(workspace, people, fake)
    assert answered >= 3

    page.goto("/annotators")
    page.locator("#pull").click()
    visitor.news(page, "queued")
    visitor.wait_for_job(page, "pull")
    visitor.keep_picture(page, "hour-6-annotators")
    with workspace.session(write=False) as session:
        reviewed = tiles(session, split="train", reviewed=True)
        boxes = sum(len(each) for each in tile_boxes(session, reviewed).values())
    assert len(reviewed) >= answered + 3
    assert boxes > answered

    page.goto("/rounds")
    page.get_by_label("Training images seen in all").fill(LITTLE["finetune-images"])
    page.locator("#retrain").click()
    visitor.news(page, "Retraining is queued")
    visitor.wait_for_job(page, "retrain")
    page.goto("/results")
    visitor.pictures_loaded(page, "img", fewest=2)
    visitor.keep_picture(page, "hour-7-results")

    page.goto("/export")
    page.wait_for_function("document.querySelector('#model input')?.value.length > 0")
    page.locator("#export").click()
    visitor.wait_for_job(page, "export")
    page.locator("#layers").click()
    visitor.wait_for_job(page, "layers")
    taken = page.locator("#files a[href*='/downloads/layers/']").first
    taken.wait_for()
    visitor.keep_picture(page, "hour-8-export", whole=True)
    with page.expect_download() as started:
        taken.click()
    with zipfile.ZipFile(started.value.path()) as layers:
        name = next(each for each in layers.namelist() if each.endswith(".gpkg"))
        layer = archive.parent / "layer.gpkg"
        layer.write_bytes(layers.read(name))
    with closing(sqlite3.connect(layer)) as opened:
        assert opened.execute("select count(*) from gpkg_contents").fetchone()[0] >= 1
