import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from engine.catalog.annotations import mark_reviewed
from engine.catalog.ground import footprints
from engine.catalog.schema import Scene, SceneAlias, SplitRule, Tile
from engine.catalog.splits import SplitConfig
from engine.catalog.tiles import add_alias, add_tiles, decide_splits, scene_file, split_rule, tiles, window_of
from engine.errors import BadInput
from engine.records import Window


@pytest.fixture
def add_scene(fake):
    return fake("catalog").add_scene


def splits_of(session, scene_id: int) -> dict[Window, str]:
    return {window_of(tile): tile.split for tile in session.scalars(select(Tile).where(Tile.scene_id == scene_id))}


def test_tiles_are_listed_by_id_with_all_that_is_needed_to_read_them(workspace, add_scene):
    with workspace.session() as session:
        scene, stored = add_scene(session, "a.tif", width=128, height=64, tile=64)
        found = tiles(session)
        assert [tile.id for tile in found] == [tile.id for tile in stored]
        assert [(tile.scene_id, tile.scene_name, tile.window) for tile in found] == [
            (scene.id, "a.tif", Window(0, 0, 64, 64)),
            (scene.id, "a.tif", Window(64, 0, 64, 64)),
        ]
        assert [tile.content_hash for tile in found] == [tile.content_hash for tile in stored]


def test_tiles_are_chosen_by_split_review_and_id(workspace, add_scene):
    with workspace.session() as session:
        for name, split in (("a", "train"), ("b", "dev"), ("c", "test"), ("d", "train")):
            add_scene(session, name, split=split)
        first, *_, last = add_scene(session, "e", width=128, split="train")[1]
        last.split = "none"
        mark_reviewed(session, [1, 2], by="somebody")
        chosen = {
            "all": tiles(session),
            "train": tiles(session, split="train"),
            "none": tiles(session, split="none"),
            "reviewed": tiles(session, reviewed=True),
            "open": tiles(session, reviewed=False),
            "open train": tiles(session, split="train", reviewed=False),
            "some": tiles(session, ids=[4, 1, 1, 999]),
            "no": tiles(session, ids=[]),
        }
        assert {key: [tile.id for tile in found] for key, found in chosen.items()} == {
            "all": [1, 2, 3, 4, first.id],
            "train": [1, 4, first.id],
            "none": [last.id],
            "reviewed": [1, 2],
            "open": [3, 4, first.id],
            "open train": [4, first.id],
            "some": [1, 4],
            "no": [],
        }


def test_more_ids_than_one_query_takes_are_all_found(workspace, add_scene):
    with workspace.session() as session:
        add_scene(session, "a")
        assert [tile.id for tile in tiles(session, ids=range(100_000))] == [1]


def test_a_scene_file_lies_in_the_workspace_or_where_it_was_referenced(workspace, add_scene, tmp_path):
    with workspace.session() as session:
        scene, _ = add_scene(session, "a.tif")
    with pytest.raises(BadInput, match=r"a\.tif"):
        scene_file(workspace, scene)
    (workspace.root / scene.path).touch()
    assert scene_file(workspace, scene) == (workspace.root / scene.path).resolve()
    scene.path = "../outside.tif"
    (workspace.root.parent / "outside.tif").touch()
    with pytest.raises(BadInput, match="leads out"):
        scene_file(workspace, scene)
    scene.path, scene.referenced = str(tmp_path / "outside.tif"), True
    assert scene_file(workspace, scene) == tmp_path / "outside.tif"


@pytest.mark.guarantee("G42")
def test_the_rule_is_decided_once(workspace):
    with workspace.session() as session:
        assert split_rule(session) is None
        first = decide_splits(session, SplitConfig(dev_share=0.2), scenes=3, tile=32, overlap=8)
        assert (first.mode, first.tile, first.overlap, first.dev_share) == ("block", 32, 8, 0.2)
        assert decide_splits(session, None, scenes=500, tile=64, overlap=0) == first
        assert decide_splits(session, SplitConfig(dev_share=0.2), scenes=500, tile=64, overlap=0) == first
        with pytest.raises(BadInput, match="first ingest fixed it"):
            decide_splits(session, SplitConfig(dev_share=0.1), scenes=3, tile=32, overlap=8)
        with pytest.raises(BadInput, match="mode"):
            decide_splits(session, SplitConfig(dev_share=0.2, mode="scene"), scenes=3, tile=32, overlap=8)


@pytest.mark.guarantee("G42")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_later_ingest_moves_a_tile_or_lets_splits_share_ground(workspace, add_scene, data):
    """Scenes on one ground, pictures, duplicates and other tilings arrive in any order; what was decided stands, and nothing leaks."""
    with workspace.session() as session:
        for table in (Tile, Scene, SplitRule):
            session.execute(delete(table))
        session.expire_all()
        before: dict[int, dict[Window, str]] = {}
        for _ in range(data.draw(st.integers(2, 6))):
            number = data.draw(st.integers(0, 5))
            tile = data.draw(st.sampled_from([20, 32]))
            shift = (number % 3) * 37.0
            scene, _ = add_scene(
                session,
                f"scene {number}",
                width=200,
                height=150,
                tile=tile,
                overlap=data.draw(st.sampled_from([0, 5])),
                transform=(1.0, 0.0, shift, 0.0, -1.0, shift) if number < 4 else None,
                config=SplitConfig(salt=data.draw(st.sampled_from(["a", "b", "c"]))) if not before else None,
            )
            now = {scene_id: splits_of(session, scene_id) for scene_id in {*before, scene.id}}
            assert all(now[scene_id].items() >= known.items() for scene_id, known in before.items())
            before = now
            require_no_shared_ground(session)


def require_no_shared_ground(session) -> None:
    import shapely

    rows = session.execute(select(Tile, Scene).join(Scene, Tile.scene_id == Scene.id).where(Tile.split != "none")).all()
    worlds: dict[object, list] = {}
    for tile, scene in rows:
        world = scene.crs_wkt or scene.id
        worlds.setdefault(world, []).append((tile.split, footprints([window_of(tile)], scene.transform)[0]))
    for placed in worlds.values():
        joined = {split: shapely.union_all([shape for found, shape in placed if found == split]) for split in ("train", "dev", "test")}
        for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
            assert shapely.intersection(joined[a], joined[b]).area < 1e-3


@pytest.mark.guarantee("G42")
def test_the_same_scene_once_more_adds_nothing(workspace, add_scene):
    with workspace.session() as session:
        scene, first = add_scene(session, "a", width=256, height=256, tile=32)
        again, second = add_scene(session, "renamed", content="a", width=256, height=256, tile=32)
        assert (again.id, [tile.id for tile in second]) == (scene.id, [tile.id for tile in first])


@pytest.mark.guarantee("G42")
def test_a_new_window_respects_the_tiles_that_its_scene_has_already(workspace, add_scene):
    with workspace.session() as session:
        scene, (stored,) = add_scene(session, "a", split="train")
        stored.split = "test"
        across, inside = add_tiles(session, scene, [Window(32, 32, 64, 64), Window(8, 8, 16, 16)], ["across", "inside"])
        assert (across.split, inside.split) == ("none", "test")


def test_a_scene_that_comes_with_a_split_keeps_it(workspace, add_scene):
    with workspace.session() as session:
        scene, stored = add_scene(session, "a", width=256, height=256, tile=32, split="test")
        assert scene.split == "test"
        assert {tile.split for tile in stored} == {"test"}
        add_scene(session, "a", width=256, height=256, tile=64, split="train")
        assert scene.split == "test"
        assert {tile.split for tile in tiles(session)} == {"test"}
        with pytest.raises(BadInput, match="'validation'"):
            add_scene(session, "b", split="validation")


def test_a_carved_scene_has_no_split_of_its_own_and_a_small_one_has(workspace, add_scene):
    with workspace.session() as session:
        assert add_scene(session, "large", width=256, height=256, tile=32)[0].split is None
        assert add_scene(session, "small", width=32, height=32, tile=32)[0].split in ("train", "dev", "test")


def test_a_tile_that_repeats_pixels_is_left_out(workspace, add_scene):
    with workspace.session() as session:
        _, (first, *_) = add_scene(session, "a", split="train")
        other, _ = add_scene(session, "b", split="test")
        copy, fresh, same = add_tiles(
            session, other, [Window(1, 1, 8, 8), Window(9, 9, 8, 8), Window(20, 20, 8, 8)], [first.content_hash, "new", "new"]
        )
        assert (copy.split, fresh.split, same.split) == ("none", "test", "none")


def test_another_name_of_the_same_pixels_is_remembered_once(workspace, add_scene):
    with workspace.session() as session:
        scene, _ = add_scene(session, "a.png")
        for name in ("a.png", "copy.png", "copy.png"):
            add_alias(session, scene, scene.source_id, name)
        assert [(row.scene_id, row.name) for row in session.scalars(select(SceneAlias))] == [(scene.id, "copy.png")]
