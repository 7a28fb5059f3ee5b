"""The service as a person uses it, in a real Chromium: from an archive to a detector without a terminal.

With ``TILEHAWK_SCREENSHOTS`` naming a folder, the pictures of the README are written there.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from engine.catalog.annotations import tile_boxes
from engine.catalog.reviews import tile_state
from engine.catalog.searches import hits, searches
from engine.catalog.tiles import tiles

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

SCENES = 6
SIDE = 640


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, fake: Callable[[str], ModuleType]) -> Path:
    """A zip of generated scenes, one of its files cut off, and beside it the labels of the cars and houses."""
    folder = tmp_path_factory.mktemp("archive")
    path = folder / "flight.zip"
    images, annotations = [], []
    with zipfile.ZipFile(path, "w") as target:
        for seed in range(SCENES):
            scene = fake("landscape").landscape(seed, side=SIDE)
            encoded = BytesIO()
            Image.fromarray(scene.pixels).save(encoded, "PNG")
            target.writestr(f"scene-{seed}.png", encoded.getvalue())
            images.append({"id": seed, "file_name": f"scene-{seed}.png", "width": SIDE, "height": SIDE})
            for label, boxes in enumerate((scene.houses, scene.cars), start=1):
                for x1, y1, x2, y2 in boxes.tolist():
                    box = [x1, y1, x2 - x1, y2 - y1]
                    annotations.append({"id": len(annotations), "image_id": seed, "category_id": label, "bbox": box})
        target.writestr("cut-off.png", encoded.getvalue()[:200])
    categories = [{"id": 1, "name": "house"}, {"id": 2, "name": "car"}]
    (folder / "labels.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_1_an_upload_that_is_no_archive_is_named_and_the_worker_goes_on(page, service, tmp_path, visitor):
    broken = tmp_path / "not-an-archive.zip"
    broken.write_bytes(b"PK\x03\x04 this is no archive" * 50)
    page.goto("/imagery")
    visitor.upload(page, "#upload-imagery", broken)
    page.locator("#ingest").click()
    visitor.news(page, "not-an-archive.zip is queued")
    visitor.wait_for_job(page, "ingest", "failed")
    assert "do:" in page.locator("#jobs").inner_text()


def test_2_an_archive_becomes_tiles_and_what_was_set_aside_is_named(page, service, archive, visitor):
    _, workspace = service
    earlier = visitor.known_jobs(workspace)
    page.goto("/imagery")
    visitor.upload(page, "#upload-imagery", archive)
    page.locator("#ingest").click()
    visitor.news(page, "flight.zip is queued")
    visitor.wait_for_job(page, "ingest", besides=earlier)
    page.wait_for_function("document.querySelectorAll('#tiles img').length > 20")
    assert "cut-off.png" in page.locator("#set-aside").inner_text()
    page.wait_for_function("[...document.querySelectorAll('#tiles img')].slice(0, 8).every(img => img.complete && img.naturalWidth > 0)")
    visitor.keep_picture(page, "imagery", whole=True)
    shown = page.locator("#tiles img").count()
    page.reload()
    page.wait_for_function("shown => document.querySelectorAll('#tiles img').length === shown", arg=shown)
    with workspace.session(write=False) as session:
        assert len(tiles(session)) == shown


def test_3_a_job_is_seen_to_progress_and_is_cancelled_and_goes_on(page, service, visitor):
    page.goto("/training")
    page.locator("#pretrain").wait_for()
    page.get_by_label("UP-DETR: patches, the backbone frozen").check()
    page.get_by_text("Details: what is learned").click()
    page.get_by_label("Name what was hidden (MIM)").check()
    page.locator("#pretrain-images input").fill("40")
    page.locator("#pretrain").click()
    visitor.news(page, "Pre-training is queued")
    page.goto("/")
    page.wait_for_function("Number(document.querySelector('#jobs progress')?.getAttribute('value')) >= 1", timeout=visitor.JOB_SECONDS)
    visitor.keep_picture(page, "overview")
    page.wait_for_function("document.querySelector('#job-to-cancel input')?.value.includes('pretrain')")
    page.locator("#cancel-job").click()
    visitor.wait_for_job(page, "pretrain", "cancelled")
    page.reload()
    visitor.wait_for_job(page, "pretrain", "cancelled")
    page.wait_for_function("document.querySelector('#job-to-resume input')?.value.includes('cancelled')")
    page.locator("#resume-job").click()
    visitor.news(page, "goes on where it was")
    visitor.wait_for_job(page, "pretrain", "done", ends=("done", "failed"))
    assert "pretrain" in page.locator("#models").inner_text()
    page.goto("/training")
    drawn = "[...document.querySelectorAll('#curves img, #training-pictures img')]"
    page.wait_for_function(f"{drawn}.length >= 3 && {drawn}.every(img => img.complete && img.naturalWidth > 0)")
    visitor.keep_picture(page, "training", whole=True)


def test_4_a_drawn_box_is_saved_exactly_and_survives_a_reload(page, service, fake, visitor):
    _, workspace = service
    (tile, box), *_ = visitor.objects_inside(workspace, fake, "houses")
    visitor.open_tile(page, "review", tile)
    page.locator("#class-names input, #class-names textarea").first.fill("house, car")
    visitor.draw(page, tuple(box))
    page.locator("#name-classes").click()
    visitor.news(page, "The classes are house, car")
    page.locator("#save").click()
    visitor.news(page, f"Tile {tile} saved: 1 added")
    visitor.keep_picture(page, "review")
    with workspace.session(write=False) as session:
        (saved,) = tile_state(session, tile).boxes_tile.xyxy
    assert np.abs(saved - np.array(box)).max() <= 1.0, "as drawn, within a pixel of the screen"
    visitor.open_tile(page, "review", tile)
    page.wait_for_function("document.querySelector('#tile').innerText.includes('1 accepted')")
    page.locator("#complete").click()
    visitor.news(page, f"Tile {tile} saved as complete: 0 added, 0 moved, 0 relabelled, 0 removed, 1 unchanged")
    with workspace.session(write=False) as session:
        assert tile_state(session, tile).reviewed
        assert np.array_equal(tile_state(session, tile).boxes_tile.xyxy[0], saved)


def test_5_two_tabs_on_one_tile_the_second_is_told_and_nothing_is_overwritten(page, browser, service, fake, visitor):
    address, workspace = service
    (tile, box) = visitor.objects_inside(workspace, fake, "cars")[-1]
    other = browser.new_page(viewport={"width": 1280, "height": 900})
    other.set_default_timeout(60 * visitor.SECONDS)
    visitor.open_tile(page, "review", tile)
    other.goto(f"{address}/review?tile={tile}")
    other.wait_for_function("id => document.querySelector('#tile-number input')?.value === String(id)", arg=tile)
    visitor.draw(page, tuple(box))
    page.locator("#save").click()
    visitor.news(page, "1 added")
    visitor.draw(other, (40, 40, 90, 90))
    other.locator("#save").click()
    visitor.news(other, "was changed by")
    other.close()
    with workspace.session(write=False) as session:
        assert len(tile_state(session, tile).boxes_tile) == 1


def test_6_look_alikes_are_found_and_one_is_accepted(page, service, fake, visitor):
    _, workspace = service
    (tile, box) = visitor.objects_inside(workspace, fake, "houses")[1]
    visitor.open_tile(page, "find", tile)
    visitor.draw(page, tuple(box))
    page.get_by_label("Look-alikes at most").fill("12")
    page.locator("#find").click()
    visitor.news(page, "The search is queued")
    visitor.wait_for_job(page, "search")
    page.wait_for_function("document.querySelectorAll('#hits img').length > 3")
    page.wait_for_function(
        "[...document.querySelectorAll('#hits img, #hit img')].slice(0, 6).every(img => img.complete && img.naturalWidth > 0)"
    )
    visitor.keep_picture(page, "find", whole=True)
    page.locator("#yes").click()
    visitor.news(page, "Kept as house")
    page.locator("#no").click()
    visitor.news(page, "not one of them")
    page.reload()
    page.wait_for_function("document.querySelector('#standing')?.innerText.includes('2 of')")
    with workspace.session(write=False) as session:
        (search,) = searches(session)
        first, second, *_ = hits(session, search.id)
        assert (first.decision, second.decision) == ("yes", "no")
        assert len(tile_boxes(session, [first.tile])[first.tile.id]) >= 1


def test_7_a_round_with_the_oracle_ends_in_a_measured_detector_that_is_exported(page, service, archive, visitor):
    page.goto("/imagery")
    visitor.upload(page, "#upload-labels", archive.parent / "labels.json")
    page.get_by_label("Withhold those on training ground").check()
    page.locator("#labels-import").click()
    visitor.wait_for_job(page, "labels-import")
    page.goto("/rounds")
    page.get_by_label("Annotator minutes to spend").fill("10")
    page.get_by_label("Training images seen in all").fill("16")
    page.locator("#annotate input").click()
    page.get_by_role("option", name="the oracle").click()
    page.locator("#start-round").click()
    visitor.news(page, "The round is queued")
    visitor.wait_for_job(page, "round")
    page.wait_for_function("document.querySelectorAll('#round-tiles img').length > 2")
    assert "s expected" in page.locator("#round-tiles").inner_text()
    visitor.keep_picture(page, "rounds", whole=True)
    page.goto("/export")
    page.wait_for_function("document.querySelector('#model input')?.value.length > 0")
    page.locator("#export").click()
    visitor.wait_for_job(page, "export")
    page.wait_for_function("document.querySelectorAll('#files a').length >= 2")
    with page.expect_download() as started:
        page.locator("#files a[href*='/downloads/exports/']").first.click()
    with zipfile.ZipFile(started.value.path()) as taken:
        assert any(name.endswith("model.onnx") for name in taken.namelist())
    page.locator("#layers").click()
    visitor.wait_for_job(page, "layers")
    page.wait_for_function("document.querySelectorAll(\"#files a[href*='/downloads/layers/']\").length === 1")
    visitor.keep_picture(page, "export")


@pytest.mark.guarantee("G27")
def test_8_a_second_app_says_who_is_in_charge_and_changes_nothing(page, service, serve, browser, visitor):
    _, workspace = service
    with serve(workspace, "--no-worker") as address:
        other = browser.new_page()
        other.set_default_timeout(60 * visitor.SECONDS)
        other.goto(f"{address}/imagery")
        other.wait_for_function("document.querySelector('#banner')?.innerText.includes('Read only')")
        before = visitor.known_jobs(workspace)
        other.get_by_label("on the server").fill("/somewhere")
        other.locator("#ingest").click()
        visitor.news(other, "is in charge of this workspace")
        assert visitor.known_jobs(workspace) == before
        other.close()
