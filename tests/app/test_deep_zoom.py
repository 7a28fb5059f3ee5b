"""Squares of scenes: the right pixels, from a bounded number of them."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from sqlalchemy import select

from app.deep_zoom import SQUARE, DeepZoom, levels_of
from app.tile_pictures import TilePictures
from engine.catalog.schema import Scene
from engine.catalog.tiles import scene_file
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.stages.ingest import IngestConfig, ingest

WIDTH, HEIGHT = 1500, 900


@pytest.fixture
def pixels():
    """A slope of colour, so that a square at the wrong place or scale shows."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([columns * 255 // WIDTH, rows * 255 // HEIGHT, (rows + columns) % 200], axis=2).astype(np.uint8)


@pytest.fixture
def workspace(tmp_path, pixels):
    (tmp_path / "imagery").mkdir()
    Image.fromarray(pixels).save(tmp_path / "imagery" / "slope.png")
    with Workspace.create(tmp_path / "workspace") as made:
        ingest(made, tmp_path / "imagery", IngestConfig(tile=256, overlap=0))
        yield made


@pytest.fixture
def pictures(workspace):
    made = TilePictures(workspace)
    yield made
    made.close()


@pytest.fixture
def scene(workspace):
    with workspace.session(write=False) as session:
        return session.scalars(select(Scene)).one()


def shown(picture):
    return np.asarray(Image.open(io.BytesIO(picture.content)))


def made(zoom, scene, *place):
    """The square, once what it needs is made."""
    deadline = time.monotonic() + 60
    while (picture := zoom.square(scene, *place)) is None:
        assert time.monotonic() < deadline, "the copy was not made in time"
        share = zoom.progress(scene)
        assert share is None or 0 <= share <= 1
        time.sleep(0.01)
    return picture


@pytest.mark.parametrize(
    ("width", "height", "levels"), [(1, 1, 0), (256, 256, 0), (257, 1, 1), (512, 512, 1), (50_000, 50_000, 8), (100, 65_536, 8)]
)
def test_levels_end_where_pixels_are_shown_as_they_are(width, height, levels):
    assert levels_of(width, height) == levels
    assert max(width, height) / 2**levels <= SQUARE


def test_deepest_level_is_the_scene_to_the_pixel(workspace, pictures, scene, pixels):
    zoom, level = DeepZoom(pictures, workspace), levels_of(WIDTH, HEIGHT)
    whole = np.zeros((4 * SQUARE, 6 * SQUARE, 3), dtype=np.uint8)
    seen = np.zeros(whole.shape[:2], dtype=bool)
    for row in range(4):
        for column in range(6):
            square = np.asarray(Image.open(io.BytesIO(zoom.square(scene, level, column, row).content)).convert("RGBA"))
            place = np.s_[row * SQUARE : (row + 1) * SQUARE, column * SQUARE : (column + 1) * SQUARE]
            whole[place], seen[place] = square[..., :3], square[..., 3] == 255
    assert np.array_equal(whole[:HEIGHT, :WIDTH], pixels)
    assert seen[:HEIGHT, :WIDTH].all()
    assert seen.sum() == WIDTH * HEIGHT, "transparent beyond the scene"


@pytest.mark.parametrize("reduction", [16, 2], ids=["read", "from the copy"])
@pytest.mark.parametrize("level", [0, 1])
def test_coarser_levels_are_the_scene_made_smaller(workspace, pictures, scene, pixels, level, reduction):
    zoom = DeepZoom(pictures, workspace, reduction=reduction)
    square = shown(made(zoom, scene, level, 0, 0)).astype(float)
    factor = 2 ** (levels_of(WIDTH, HEIGHT) - level)
    height, width = (min(SQUARE, -(-side // factor)) for side in (HEIGHT, WIDTH))
    part = pixels[: height * factor, : width * factor]
    expected = np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BOX), dtype=float)
    apart = np.abs(square[:height, :width, :2] - expected[..., :2])
    assert (apart.mean() < 2, apart.max() < 16) == (True, True), "as near as a JPEG comes"
    assert (square[height:, :, 3] == 0).all()


@pytest.mark.parametrize("place", [(-1, 0, 0), (4, 0, 0), (3, 6, 0), (3, 0, 4), (0, 1, 0), (33, 0, 0)])
def test_squares_beyond_the_scene_are_named(workspace, pictures, scene, place):
    with pytest.raises(BadInput, match="no square"):
        DeepZoom(pictures, workspace).square(scene, *place)


class Counting:
    """Pictures that note the most pixels that were decoded at once."""

    def __init__(self, pictures):
        self._pictures, self.most = pictures, 0

    def smaller(self, scene, window, width, height, *, most_pixels):
        found = self._pictures.smaller(scene, window, width, height, most_pixels=most_pixels)
        if found is not None:
            self.most = max(self.most, window.width * window.height)
        return found


def test_no_square_and_no_copy_decodes_more_than_the_bound_at_once(workspace, pictures, scene):
    counting = Counting(pictures)
    zoom = DeepZoom(counting, workspace, reduction=2)
    assert zoom.square(scene, 0, 0, 0) is None, "the copy is being made"
    made(zoom, scene, 0, 0, 0)
    assert 0 < counting.most <= (2 * SQUARE) ** 2 < WIDTH * HEIGHT


def test_copy_is_made_once_and_kept(workspace, pictures, scene):
    first = made(DeepZoom(pictures, workspace, reduction=2), scene, 0, 0, 0)
    again = DeepZoom(pictures, workspace, reduction=2).square(scene, 0, 0, 0)
    assert again is not None
    assert np.abs(shown(first).astype(float) - shown(again)).max() == 0


def test_copy_of_a_scene_that_is_gone_is_refused(workspace, pictures, scene):
    zoom = DeepZoom(pictures, workspace, reduction=2)
    scene_file(workspace, scene).unlink()
    with pytest.raises(BadInput):
        made(zoom, scene, 0, 0, 0)


class Troubled(Counting):
    """Pictures that the background cannot read while there is trouble."""

    trouble = True

    def smaller(self, scene, window, width, height, *, most_pixels):
        if self.trouble and threading.current_thread() is not threading.main_thread():
            raise BadInput("the disk was away")
        return super().smaller(scene, window, width, height, most_pixels=most_pixels)


def test_copy_that_failed_is_tried_again_once_that_was_told(workspace, pictures, scene):
    troubled = Troubled(pictures)
    zoom = DeepZoom(troubled, workspace, reduction=2, failed_seconds=0)
    for _ in range(2):
        with pytest.raises(BadInput, match="the disk was away"):
            made(zoom, scene, 0, 0, 0)
    troubled.trouble = False
    assert made(zoom, scene, 0, 0, 0) is not None


def test_all_squares_that_are_asked_for_at_once_are_told_of_a_failure(workspace, pictures, scene):
    troubled = Troubled(pictures)
    zoom = DeepZoom(troubled, workspace, reduction=2, failed_seconds=60)
    with pytest.raises(BadInput, match="the disk was away"):
        made(zoom, scene, 0, 0, 0)
    troubled.trouble = False
    with pytest.raises(BadInput, match="the disk was away"):
        zoom.square(scene, 0, 0, 0)


def test_overviews_inside_a_file_are_used(tmp_path, pixels):
    """Then no copy is needed, however large the scene is."""
    (tmp_path / "imagery").mkdir()
    path = tmp_path / "imagery" / "with.tif"
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 3, "dtype": "uint8", "tiled": True, "photometric": "rgb"}
    with rasterio.open(path, "w", **profile, crs="EPSG:32617", transform=rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)) as target:
        target.write(np.moveaxis(pixels, 2, 0))
        target.build_overviews([2, 4], Resampling.average)
    with Workspace.create(tmp_path / "workspace") as workspace:
        ingest(workspace, tmp_path / "imagery", IngestConfig(tile=256, overlap=0))
        with workspace.session(write=False) as session:
            scene = session.scalars(select(Scene)).one()
        pictures = TilePictures(workspace)
        assert DeepZoom(pictures, workspace, reduction=2).square(scene, 0, 0, 0) is not None
        pictures.close()
