"""Which scene a label file means by an image's name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.catalog.schema import Scene, SceneAlias

__all__ = ["SceneNames"]


class SceneNames:
    """The names of scenes, and how a name in a label file leads to one.

    In turn: the whole name, the end of the name cut at a folder, the file name, the file name without its suffix. The first of them
    that any scene answers to decides.

    Args:
        names: (name, scene id) pairs; a scene may have several names.
    """

    def __init__(self, names: Iterable[tuple[str, int]]) -> None:
        self._by_path: dict[str, set[int]] = {}
        self._by_ending: dict[str, set[int]] = {}
        self._by_stem: dict[str, set[int]] = {}
        self._paths_of: dict[int, set[str]] = {}
        for name, scene_id in names:
            path = _path(name)
            self._by_path.setdefault(str(path), set()).add(scene_id)
            self._paths_of.setdefault(scene_id, set()).add(str(path))
            for depth in range(len(path.parts)):
                self._by_ending.setdefault("/".join(path.parts[depth:]), set()).add(scene_id)
            self._by_stem.setdefault(path.stem, set()).add(scene_id)

    @classmethod
    def of(cls, session: Session) -> SceneNames:
        """All scenes of the workspace, with their further names."""
        names = [(name, scene_id) for name, scene_id in session.execute(select(Scene.name, Scene.id))]
        return cls(names + [(name, scene_id) for name, scene_id in session.execute(select(SceneAlias.name, SceneAlias.scene_id))])

    def find(self, image: str) -> list[int]:
        """The ids of the scenes that ``image`` may mean: one where it is clear, none where no scene answers to it."""
        path = _path(image)
        readings = ((self._by_path, str(path)), (self._by_ending, str(path)), (self._by_ending, path.name), (self._by_stem, path.stem))
        return next((sorted(index[key]) for index, key in readings if key in index), [])

    def names_of(self, scene_id: int) -> int:
        """How many names the scene has: more images than that cannot all mean it."""
        return len(self._paths_of.get(scene_id, ()))


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))
