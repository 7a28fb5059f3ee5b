"""Which scene a label file means by an image's name, and where scenes lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import PurePosixPath

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.catalog.schema import Scene, SceneAlias
from engine.catalog.workspace import Workspace
from engine.records import GeoReference, SceneFrame

__all__ = ["SceneFrames", "SceneNames", "frame_of", "names_of_twins"]


class SceneNames:
    """The names of scenes, and how a name in a label file leads to one.

    In turn: the whole name; its ends cut at a folder, the longest first; those ends without their suffix as the name of a scene without
    its own (``a.xml`` means ``a.tif``), then as they are (``a.tif.txt`` means ``a.tif``). The first that any scene answers to decides.

    Args:
        names: (name, scene id) pairs; a scene may have several names.
        written: further pairs, of names that only our own exports use, see :func:`names_of_twins`.
    """

    def __init__(self, names: Iterable[tuple[str, int]], written: Iterable[tuple[str, int]] = ()) -> None:
        self._by_path: dict[str, set[int]] = {}
        self._by_ending: dict[str, set[int]] = {}
        self._by_stem: dict[str, set[int]] = {}
        self._paths_of: dict[int, set[str]] = {}
        for name, scene_id in names:
            self._paths_of.setdefault(scene_id, set()).add(str(_path(name)))
            self._add(_path(name), scene_id)
        for name, scene_id in written:
            self._add(_path(name), scene_id)

    def _add(self, path: PurePosixPath, scene_id: int) -> None:
        self._by_path.setdefault(str(path), set()).add(scene_id)
        for ending in _endings(path):
            self._by_ending.setdefault(ending, set()).add(scene_id)
            self._by_stem.setdefault(_without_suffix(ending), set()).add(scene_id)

    @classmethod
    def of(cls, session: Session) -> SceneNames:
        """All scenes of the workspace, with their further names."""
        names = [(name, scene_id) for name, scene_id in session.execute(select(Scene.name, Scene.id))]
        names += [(name, scene_id) for name, scene_id in session.execute(select(SceneAlias.name, SceneAlias.scene_id))]
        return cls(names, [(name, scene_id) for scene_id, name in names_of_twins(session).items()])

    def find(self, image: str) -> list[int]:
        """The ids of the scenes that ``image`` may mean: one where it is clear, none where no scene answers to it."""
        path = _path(image)
        endings = _endings(path)
        stems = [_without_suffix(ending) for ending in endings]
        readings = [(self._by_path, str(path))]
        for index, keys in ((self._by_ending, endings), (self._by_stem, stems), (self._by_ending, stems)):
            readings += [(index, key) for key in keys]
        return next((sorted(index[key]) for index, key in readings if key in index), [])

    def names_of(self, scene_id: int) -> int:
        """How many names the scene has: more images than that cannot all mean it."""
        return len(self._paths_of.get(scene_id, ()))


class SceneFrames:
    """The scenes of a workspace as readers of labels need them, read from the catalog when the first is asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def __iter__(self) -> Iterator[SceneFrame]:
        """Every scene by id."""
        return iter(self._frames.values())

    def find(self, image: str) -> list[SceneFrame]:
        """The scenes that ``image`` may mean, see :class:`SceneNames`."""
        return [self._frames[scene_id] for scene_id in self._names.find(image)]

    @cached_property
    def _names(self) -> SceneNames:
        with self._workspace.session(write=False) as session:
            return SceneNames.of(session)

    @cached_property
    def _frames(self) -> dict[int, SceneFrame]:
        with self._workspace.session(write=False) as session:
            return {scene.id: frame_of(scene) for scene in session.scalars(select(Scene).order_by(Scene.id))}


def names_of_twins(session: Session) -> dict[int, str]:
    """By id, what exports call the scenes that share their name with another: ``scene-HASH/NAME``, by eight digits of their pixels' hash.

    So a name means the same pixels in every workspace, in whatever order they were ingested.
    """
    rows = list(session.execute(select(Scene.id, Scene.name, Scene.content_hash)))
    count = Counter(name for _, name, _ in rows)
    return {scene_id: f"scene-{content_hash[:8]}/{name}" for scene_id, name, content_hash in rows if count[name] > 1}


def frame_of(scene: Scene) -> SceneFrame:
    """The frame of a scene's row."""
    georeference = None
    if scene.crs_wkt and scene.transform:
        a, b, c, d, e, f = scene.transform
        georeference = GeoReference(scene.crs_wkt, (a, b, c, d, e, f))
    return SceneFrame(scene.id, scene.name, scene.width, scene.height, georeference)


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _endings(path: PurePosixPath) -> list[str]:
    return ["/".join(path.parts[depth:]) for depth in range(len(path.parts))]


def _without_suffix(ending: str) -> str:
    folder, slash, name = ending.rpartition("/")
    return folder + slash + PurePosixPath(name).stem
