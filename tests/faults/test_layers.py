"""A process that dies at any write, sync or rename of a layer leaves the old layer, or none, or the whole new one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyogrio
import pytest

from connectors.formats import coco
from engine.files import sweep_temporary

CHILD = """
import importlib, os, shutil, sys
from pathlib import Path
import pyogrio.raw, pyproj, shapely
root, fakes, kind, name = Path(sys.argv[1]), *sys.argv[2:]
sys.path.insert(0, fakes)
import scenes
writer = importlib.import_module(f"connectors.formats.{kind}")

def write(path, number):
    records = scenes.detections("utm", number=number)
    writer.write(path, records.as_label_file() if kind == "coco" else records)

def in_child(path, number, crash_at):
    child = os.fork()
    if not child:
        os.environ.pop("TILEHAWK_CRASH_AT", None)
        if crash_at:
            os.environ["TILEHAWK_CRASH_AT"] = str(crash_at)
        write(path, number)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

for before in ("absent", "old"):
    for crash_at in range(1, 100):
        folder = root / before / str(crash_at)
        folder.mkdir(parents=True)
        if before == "old":
            assert in_child(folder / name, 3, 0) == 0
        code = in_child(folder / name, 7, crash_at)
        (folder / "code").write_text(str(code))
        if code == 0:
            break
"""


def features(path: Path, kind: str) -> int:
    """How many features a complete layer holds."""
    if kind == "geopackage":
        return pyogrio.read_info(path, layer="detections")["features"]
    if kind == "geojson":
        return len(json.loads(path.read_text())["features"])
    return len(coco.read(path).images[0].boxes_scene)


@pytest.mark.guarantee("G5")
@pytest.mark.parametrize(("kind", "name"), [("geopackage", "layer.gpkg"), ("geojson", "layer.geojson"), ("coco", "layer.json")])
def test_a_layer_is_absent_or_old_or_complete_wherever_the_process_dies(kind, name, tmp_path):
    fakes = Path(__file__).parents[1] / "fakes"
    subprocess.run([sys.executable, "-c", CHILD, tmp_path, fakes, kind, name], check=True, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    for before, allowed in (("absent", {None, 7}), ("old", {3, 7})):
        seen = []
        runs = sorted((tmp_path / before).iterdir(), key=lambda folder: int(folder.name))
        for folder in runs:
            path = folder / name
            seen.append(features(path, kind) if path.exists() else None)
            sweep_temporary(folder)
            assert sorted(entry.name for entry in folder.iterdir()) == ["code"] + [name] * path.exists()
        codes = [int((folder / "code").read_text()) for folder in runs]
        assert codes == [137] * (len(runs) - 1) + [0]
        assert len(runs) > 3
        assert set(seen) == allowed
        assert seen[-1] == 7
