"""Archives of very many files, and a scene of very many pixels: memory does not grow with either."""

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

MEGABYTES = 2**20
CHILD = """
import json, resource, sys, threading, time
from pathlib import Path
from engine.catalog.workspace import Workspace
from engine.errors import Cancelled
from engine.progress import silent
from engine.stages.ingest import IngestConfig, ingest

source, folder, cancel_after = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
config = IngestConfig.from_mapping(json.loads(sys.argv[4]))
said = {"shown": 0, "asked_at": 0.0}

def cancelled(done, total, message):
    said["shown"] += 1
    if cancel_after and time.monotonic() - began > cancel_after:
        said["asked_at"] = said["asked_at"] or time.monotonic()
        raise Cancelled("stopped")

with Workspace.create(folder) as workspace:
    began = time.monotonic()
    try:
        report = ingest(workspace, source, config, progress=cancelled)
        said |= {"scenes": report.scenes_added, "tiles": report.tiles_added}
    except Cancelled:
        said["stopped_after"] = time.monotonic() - said["asked_at"]
    said["seconds"] = time.monotonic() - began
said["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(said))
"""


def ingested(source, folder, *, cancel_after=0.0, **config):
    """What a process of its own said of the ingest: ``seconds``, ``peak`` bytes, scenes, tiles."""
    command = [sys.executable, "-c", CHILD, str(source), str(folder), str(cancel_after), json.dumps(config)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def tiny_pictures(path, count):
    generator = np.random.default_rng(count)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            stream = io.BytesIO()
            Image.fromarray(generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(stream, "JPEG", quality=60)
            archive.writestr(f"part{index // 1000}/{index:06d}.jpg", stream.getvalue())
    return path


@pytest.mark.guarantee("G15")
def test_archive_of_a_hundred_thousand_files_takes_time_in_proportion_and_no_more_memory(tmp_path):
    few = ingested(tiny_pictures(tmp_path / "few.zip", 10_000), tmp_path / "few", tile=32, overlap=0)
    archive = tiny_pictures(tmp_path / "many.zip", 100_000)
    many = ingested(archive, tmp_path / "many", tile=32, overlap=0)
    assert (few["scenes"], many["scenes"]) == (10_000, 100_000)
    assert many["seconds"] <= 12 * few["seconds"]
    assert many["peak"] <= 500 * MEGABYTES
    assert many["shown"] > 100
    stopped = ingested(archive, tmp_path / "stopped", cancel_after=5, tile=32, overlap=0)
    assert stopped["stopped_after"] < 2


@pytest.mark.guarantee("G17")
def test_scene_of_fifty_thousand_pixels_a_side_is_read_in_windows(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    side, path = 50_000, tmp_path / "wide.tif"
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.1, 0, 5e5, 0, -0.1, 5e6)}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "sparse_ok": True}
    with rasterio.open(path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", **layout, **place) as scene:
        block = np.random.default_rng(0).integers(1, 255, (3, 512, 512), dtype=np.uint8)
        for corner in (0, side // 2 // 512 * 512, (side - 512) // 512 * 512):
            scene.write(block, window=rasterio.windows.Window(corner, corner, 512, 512))
    assert path.stat().st_size < 20 * MEGABYTES
    found = ingested(path, tmp_path / "workspace", tile=2048, overlap=0, minimum_valid_share=0.0)
    assert found["scenes"] == 1
    assert found["tiles"] >= (side // 2048) ** 2
    assert found["peak"] <= 700 * MEGABYTES, "the scene has 7,500 MB of pixels"
