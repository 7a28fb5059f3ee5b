import contextlib

import pytest
from sqlalchemy import select

from engine.catalog import sources
from engine.catalog.schema import Scene, SceneAlias, Tile
from engine.catalog.splits import SplitConfig
from engine.catalog.tiles import decide_splits
from engine.catalog.workspace import Workspace
from engine.imagery.cutting import CutScene, cut_scene
from engine.stages import scene_batch
from engine.stages.scene_batch import Entered, SceneBatch


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        with made.session() as session:
            decide_splits(session, SplitConfig(mode="scene"), scenes=2, tile=32, overlap=0)
            sources.open_source(session, name="a.zip", kind="zip", identity="1", config={})
        yield made


@pytest.fixture
def batch(workspace):
    with contextlib.closing(SceneBatch(workspace, "train")) as opened:
        yield opened


@pytest.fixture
def cut(write_picture, tmp_path):
    picture = tmp_path / "picture.png"
    write_picture(picture, width=64, height=32)
    return cut_scene(picture, tile=32, overlap=0, minimum_valid_share=0)


def scene(name, *, referenced=False):
    path = f"/data/{name}" if referenced else f"scenes/{name}.png"
    size = {"width": 64, "height": 32, "bands": 3, "dtype": "uint8"}
    return Scene(source_id=1, name=name, content_hash=name * 64, path=path, referenced=referenced, **size)


def unpacked(batch, content=b"pixels"):
    file = batch.new_file()
    file.write_bytes(content)
    return file


def add(batch, name, cut):
    batch.add(scene(name), cut, unpacked(batch, name.encode()))


def test_nothing_is_in_the_catalog_before_the_batch_is_entered(workspace, batch, cut):
    add(batch, "a", cut)
    add(batch, "b", CutScene(cut.info, cut.windows[:1], ["other"], 1))
    with workspace.session(write=False) as session:
        assert session.scalars(select(Scene)).all() == []
    assert batch.enter() == Entered([1, 2], 3, 1)
    with workspace.session(write=False) as session:
        assert [found.name for found in session.scalars(select(Scene))] == ["a", "b"]
        assert {found.split for found in session.scalars(select(Tile))} == {"train"}
    assert {file.name: file.read_bytes() for file in workspace.scenes.iterdir()} == {"a.png": b"a", "b.png": b"b"}
    assert batch.enter() == Entered([], 0, 0)


def test_a_file_that_stays_where_it_is_is_not_moved(workspace, batch, cut):
    batch.add(scene("a", referenced=True), cut, None)
    assert batch.enter().scenes == [1]
    assert list(workspace.scenes.iterdir()) == []


def test_a_scene_is_found_by_its_content_while_it_waits_and_afterwards(batch, cut):
    assert batch.scene("a" * 64) is None
    add(batch, "a", cut)
    assert batch.holds("a" * 64)
    assert batch.scene("a" * 64).id is None
    batch.enter()
    assert not batch.holds("a" * 64)
    assert batch.scene("a" * 64).id == 1
    with contextlib.closing(SceneBatch(batch.workspace)) as another:
        assert another.scene("a" * 64).name == "a"


def test_another_name_is_remembered(workspace, batch, cut):
    add(batch, "a", cut)
    batch.enter()
    batch.rename(batch.scene("a" * 64), 1, "a-again")
    with workspace.session(write=False) as session:
        assert [(alias.scene_id, alias.name) for alias in session.scalars(select(SceneAlias))] == [(1, "a-again")]


@pytest.mark.parametrize(("bound", "value"), [("MOST_SCENES", 2), ("MOST_TILES", 4), ("MOST_BYTES", 2)])
def test_it_is_full_by_scenes_tiles_or_bytes_and_empty_again(batch, cut, monkeypatch, bound, value):
    monkeypatch.setattr(scene_batch, bound, value)
    add(batch, "a", cut)
    assert not batch.is_full
    add(batch, "b", cut)
    assert batch.is_full
    batch.enter()
    assert not batch.is_full


def test_it_is_full_when_the_first_has_waited_long_enough(batch, cut, monkeypatch):
    monkeypatch.setattr(scene_batch, "MOST_SECONDS", 0.0)
    assert not batch.is_full
    add(batch, "a", cut)
    assert batch.is_full


def test_what_was_never_entered_is_removed(workspace, cut):
    with contextlib.closing(SceneBatch(workspace)) as batch:
        add(batch, "a", cut)
        assert len(list(workspace.temporary.iterdir())) == 1
    assert list(workspace.temporary.iterdir()) == []
    assert list(workspace.scenes.iterdir()) == []
