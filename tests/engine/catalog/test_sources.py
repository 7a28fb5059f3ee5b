import pytest
from sqlalchemy import select

from engine.catalog import sources
from engine.catalog.schema import Scene, SceneAlias, SetAside, Source, SplitRule, Tile
from engine.catalog.splits import SplitConfig
from engine.catalog.tiles import add_alias, add_tiles, decide_splits
from engine.errors import BadInput
from engine.records import Window

CONFIG = {"tile": 32, "overlap": 0}


@pytest.fixture
def session(workspace):
    with workspace.session() as opened:
        decide_splits(opened, SplitConfig(mode="scene"), scenes=2, tile=32, overlap=0)
        yield opened


def opened(session, identity="1" * 64, **config):
    return sources.open_source(session, name="a.zip", kind="zip", identity=identity, config=CONFIG | config)


def add_scene(session, source, name, *, referenced=False):
    scene = Scene(
        source_id=source.id,
        name=name,
        content_hash=name.rjust(64, "0"),
        path=f"/data/{name}" if referenced else f"scenes/{name}",
        referenced=referenced,
        width=64,
        height=32,
        bands=3,
        dtype="uint8",
    )
    session.add(scene)
    session.flush()
    add_tiles(session, scene, [Window(0, 0, 32, 32), Window(32, 0, 32, 32)], [f"{name}-left", f"{name}-right"])
    return scene


def count(session, table):
    return len(session.scalars(select(table)).all())


def test_a_source_opened_again_is_the_same_row(session):
    assert opened(session).id == opened(session).id
    assert opened(session, "2" * 64).id != opened(session).id
    assert sources.find_source(session, "1" * 64).state == "running"
    assert sources.find_source(session, "3" * 64) is None


def test_a_source_opened_with_another_config_is_refused(session):
    opened(session)
    with pytest.raises(BadInput, match="tile = 64"):
        opened(session, tile=64)


def test_what_is_set_aside_takes_the_place_of_what_was(session):
    source = opened(session)
    sources.close_source(session, source, {"b": "cut", "a": "empty"})
    session.flush()
    assert sources.set_aside_of(session, source) == [("a", "empty"), ("b", "cut")]
    sources.close_source(session, source, {"b": "cut"})
    session.flush()
    assert sources.set_aside_of(session, source) == [("b", "cut")]
    assert sources.find_source(session, source.identity).state == "done"


def test_scenes_are_found_by_content_and_listed_by_name(session):
    source = opened(session)
    scene = add_scene(session, source, "a.png")
    add_scene(session, source, "b.png", referenced=True)
    assert sources.scene_by_hash(session, scene.content_hash) is scene
    assert sources.scene_by_hash(session, "f" * 64) is None
    assert set(sources.scene_hashes(session, source)) == {"a.png", "b.png"}
    assert sources.scene_files(session) == {"scenes/a.png"}
    assert sources.content_hashes(session) == {"a.png".rjust(64, "0"), "b.png".rjust(64, "0")}


def test_tiles_are_counted_by_split_for_their_source_alone(session):
    source, other = opened(session), opened(session, "2" * 64)
    add_scene(session, source, "a.png")
    add_scene(session, other, "b.png")
    counts = sources.tiles_by_split(session, source)
    assert list(counts) == ["train", "dev", "test", "none"]
    assert sum(counts.values()) == 2


def test_a_forgotten_source_takes_everything_with_it_and_leaves_the_others(session):
    source, other = opened(session), opened(session, "2" * 64)
    add_scene(session, source, "a.png")
    kept = add_scene(session, other, "b.png")
    add_alias(session, kept, source.id, "b-again.png")
    sources.close_source(session, source, {"c": "cut"})
    session.flush()
    sources.forget_source(session, source)
    assert [count(session, table) for table in (Source, Scene, Tile, SceneAlias, SetAside, SplitRule)] == [1, 1, 2, 0, 0, 1]
    sources.forget_source(session, other)
    assert [count(session, table) for table in (Source, Scene, Tile, SceneAlias, SetAside, SplitRule)] == [0] * 6
