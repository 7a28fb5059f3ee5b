import pytest
from sqlalchemy import select

from engine.catalog import sources
from engine.catalog.forgotten import first_id_of
from engine.catalog.schema import Scene, Tile
from engine.catalog.splits import SplitConfig
from engine.catalog.tiles import add_tiles, decide_splits
from engine.records import Window


def taken_in(workspace, name):
    """A source of one scene with three tiles."""
    with workspace.session() as session:
        decide_splits(session, SplitConfig(mode="scene"), scenes=2, tile=32, overlap=0)
        source = sources.open_source(session, name=name, kind="zip", identity=name, config={})
        scene = Scene(source_id=source.id, name=name, content_hash=name, path=f"scenes/{name}", width=96, height=32, bands=3, dtype="uint8")
        scene.id = first_id_of(session, Scene)
        session.add(scene)
        session.flush()
        add_tiles(session, scene, [Window(32 * column, 0, 32, 32) for column in range(3)], [f"{name}-{column}" for column in range(3)])
        return source


def ids(workspace):
    with workspace.session(write=False) as session:
        return list(session.scalars(select(Scene.id))), list(session.scalars(select(Tile.id)))


def forget(workspace, source):
    with workspace.session() as session:
        sources.forget_source(session, source)


def test_ids_of_what_was_withdrawn_are_not_given_again(workspace):
    taken_in(workspace, "a")
    withdrawn = taken_in(workspace, "b")
    assert ids(workspace) == ([1, 2], [1, 2, 3, 4, 5, 6])
    forget(workspace, withdrawn)
    again = taken_in(workspace, "c")
    taken_in(workspace, "d")
    assert ids(workspace) == ([1, 3, 4], [1, 2, 3, 7, 8, 9, 10, 11, 12])
    forget(workspace, again)
    taken_in(workspace, "e")
    assert ids(workspace) == ([1, 4, 5], [1, 2, 3, 10, 11, 12, 13, 14, 15])


def test_a_catalog_that_is_empty_again_counts_on(workspace):
    for name in ("a", "b", "c"):
        forget(workspace, taken_in(workspace, name))
    taken_in(workspace, "d")
    scenes, tiles = ids(workspace)
    assert len(scenes) == 1
    assert not {1, 2, 3} & set(scenes)
    assert min(tiles) > 9


@pytest.mark.parametrize("table", [Scene, Tile])
def test_nothing_is_said_where_nothing_was_withdrawn(workspace, table):
    taken_in(workspace, "a")
    with workspace.session() as session:
        assert first_id_of(session, table) is None


def test_a_session_that_withdraws_says_it_to_itself(workspace):
    source = taken_in(workspace, "a")
    with workspace.session() as session:
        assert first_id_of(session, Tile) is None
        sources.forget_source(session, source)
        counts_on_by_itself = session.get_bind().dialect.name != "sqlite"
        assert first_id_of(session, Tile) == (None if counts_on_by_itself else 4)
