"""A process that dies at any write, sync or rename of exported labels leaves the old ones, or none, or the whole new ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.wiring import LABEL_WRITERS, read_labels
from engine.files import sweep_temporary

CHILD = """
import os, sys
from pathlib import Path
import numpy as np, pyogrio.raw, pyproj, shapely, yaml
from app.wiring import write_labels
from engine.boxes import Boxes
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile
root, kind, name = Path(sys.argv[1]), *sys.argv[2:]

def labels(number):
    boxes = Boxes(np.array([[5.0 * row, 5, 5 * row + 4, 9] for row in range(number)]), np.zeros(number))
    return LabelFile(LabelSet.of(["tree"]), tuple(ImageLabels(image, 100, 100, boxes, split="train") for image in ("a.png", "b.png")))

def in_child(path, number, crash_at):
    child = os.fork()
    if not child:
        os.environ.pop("TILEHAWK_CRASH_AT", None)
        if crash_at:
            os.environ["TILEHAWK_CRASH_AT"] = str(crash_at)
        write_labels(kind, path, labels(number))
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


@pytest.fixture
def scenes(fake):
    return fake("frames").Scenes(*((name, 100, 100) for name in ("a.png", "b.png")))


@pytest.mark.guarantee("G5")
@pytest.mark.parametrize("kind", LABEL_WRITERS)
def test_labels_are_absent_or_old_or_complete_wherever_the_process_dies(kind, tmp_path, scenes):
    name = f"labels{LABEL_WRITERS[kind]}"
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", CHILD, tmp_path, kind, name], check=True, env=environment, timeout=240)
    for before, allowed in (("absent", {None, (7, 7)}), ("old", {None, (3, 3), (7, 7)} if kind in ("yolo", "voc") else {(3, 3), (7, 7)})):
        runs = sorted((tmp_path / before).iterdir(), key=lambda folder: int(folder.name))
        seen = []
        for folder in runs:
            path = folder / name
            seen.append(tuple(len(image.boxes_scene) for image in read_labels(path, scenes).images) if path.exists() else None)
            sweep_temporary(folder)
            assert sorted(entry.name for entry in folder.iterdir()) == ["code"] + [name] * path.exists()
        codes = [int((folder / "code").read_text()) for folder in runs]
        assert codes == [137] * (len(runs) - 1) + [0]
        assert len(runs) > 3
        assert set(seen) == allowed
        assert seen[-1] == (7, 7)
