"""An ingest that dies anywhere, and images that are damaged in any way."""

import io
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from engine.catalog.schema import Base, Scene, SceneAlias, SetAside, Source, SplitRule, Tile
from engine.catalog.workspace import Workspace
from engine.files import sha256_of

HERE = Path(__file__).parent
KILLED = signal.SIGKILL
CRASHED = 137 << 8
SECONDS_PER_FILE = 5.0


class IngestProcess:
    """The process of ``ingest_child.py``."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, HERE / "ingest_child.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        line = self._process.stdout.readline().strip()
        assert line, "the child process died"
        return line

    def run(self, workspace: Path, source: Path, **death: float) -> int:
        """Ingest in a fork, which dies as told; returns its exit status."""
        self._process.stdin.write(json.dumps({"workspace": str(workspace), "source": str(source), **death}) + "\n")
        return int(self._line())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


@pytest.fixture(scope="module")
def ingest_process():
    process = IngestProcess()
    yield process
    process.close()


@pytest.fixture(scope="module")
def empty_workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("empty") / "workspace"
    Workspace.create(root).close()
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """An archive with pictures of three formats, a copy, a damaged one and a label file."""
    path = tmp_path_factory.mktemp("source") / "pictures.zip"
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for name, kind in (("a.png", "PNG"), ("b.jpg", "JPEG"), ("c.tif", "TIFF")):
            buffer = io.BytesIO()
            Image.fromarray(generator.integers(0, 255, (32, 56, 3), dtype=np.uint8)).save(buffer, kind)
            archive.writestr(name, buffer.getvalue())
        archive.writestr("copy.tif", buffer.getvalue())
        archive.writestr("cut.tif", buffer.getvalue()[:500])
        archive.writestr("labels.json", "{}")
    return path


@pytest.fixture
def trial(empty_workspace, tmp_path):
    """A fresh empty workspace at each call."""

    def make() -> Path:
        root = tmp_path / "trial"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(empty_workspace, root)
        return root

    return make


def catalog_of(root: Path) -> dict[str, object]:
    """All that ingest writes, times left out, and the files beside it."""
    tables: tuple[type[Base], ...] = (Source, Scene, SceneAlias, Tile, SetAside, SplitRule)
    with Workspace.open(root) as workspace, workspace.session(write=False) as session:
        content: dict[str, object] = {
            table.__tablename__: [
                {column.name: getattr(row, column.key) for column in table.__table__.columns if column.name != "created"}
                for row in session.scalars(select(table).order_by(table.id))
            ]
            for table in tables
        }
        files = sorted(path for folder in (workspace.scenes, workspace.temporary) for path in folder.rglob("*"))
    content["files"] = [(str(path.relative_to(root)), sha256_of(path)) for path in files]
    return content


@pytest.fixture(scope="module")
def clean_run(ingest_process, source, empty_workspace, tmp_path_factory):
    root = tmp_path_factory.mktemp("clean") / "workspace"
    shutil.copytree(empty_workspace, root)
    started = time.perf_counter()
    assert ingest_process.run(root, source) == 0
    seconds = time.perf_counter() - started
    found = catalog_of(root)
    assert len(found["scene"]) == 3
    return found, seconds


def assert_completes_as(clean, ingest_process, root, source):
    assert ingest_process.run(root, source) == 0
    assert catalog_of(root) == clean


@pytest.mark.guarantee("G4")
@pytest.mark.parametrize(("point", "status", "step"), [("crash_at", CRASHED, 1), ("at_commit", KILLED, 1), ("at_progress", KILLED, 4)])
def test_an_ingest_that_dies_at_any_point_ends_as_one_clean_run(ingest_process, source, trial, clean_run, point, status, step):
    clean, _ = clean_run
    deaths = 0
    for count in itertools.count(1, step):
        root = trial()
        found = ingest_process.run(root, source, **{point: count})
        if found == 0:
            break
        assert found == status
        deaths += 1
        assert_completes_as(clean, ingest_process, root, source)
    assert catalog_of(root) == clean
    assert deaths >= 5


@pytest.mark.guarantee("G4")
def test_an_ingest_that_is_killed_at_any_time_ends_as_one_clean_run(ingest_process, source, trial, clean_run):
    clean, seconds = clean_run
    generator = random.Random(0)
    for _ in range(10):
        root = trial()
        ingest_process.run(root, source, kill_after=generator.uniform(0, seconds))
        assert_completes_as(clean, ingest_process, root, source)


@pytest.mark.guarantee("G4")
def test_an_ingest_that_dies_again_and_again_still_gets_there(ingest_process, source, trial, clean_run):
    clean, _ = clean_run
    root = trial()
    for _ in range(10):
        if ingest_process.run(root, source, crash_at=3) == 0:
            break
    assert_completes_as(clean, ingest_process, root, source)


@pytest.mark.guarantee("G9", "G10")
def test_damaged_images_are_refused_without_a_crash_or_a_hang(tmp_path):
    child = subprocess.run([sys.executable, HERE / "fuzz_child.py", tmp_path], check=False, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr[-2000:]
    report = json.loads(child.stdout)
    assert report["other"] == []
    assert report["cut"]["read"] == []
    assert report["cut"]["refused"] == 6 * 21 + 3 * 18 + 1
    assert report["flipped"]["refused"] + len(report["flipped"]["read"]) == 500
    assert report["slowest"] < SECONDS_PER_FILE
