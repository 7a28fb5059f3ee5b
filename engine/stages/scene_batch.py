"""Scenes on their way into the catalog, several at a time: to sync and to commit cost more than to read a small image."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.catalog import sources
from engine.catalog.forgotten import first_id_of
from engine.catalog.schema import Scene
from engine.catalog.tiles import add_alias, add_tiles
from engine.catalog.workspace import Workspace
from engine.files import TEMPORARY, place
from engine.imagery.cutting import CutScene

__all__ = ["UNPACKED_NAME", "Entered", "SceneBatch"]

UNPACKED_NAME = "image-"
MOST_SCENES = 64
MOST_TILES = 4096
MOST_BYTES = 64 * 2**20
MOST_SECONDS = 5.0


@dataclass(frozen=True)
class Entered:
    """What a batch became."""

    scenes: list[int]
    """ids of new scenes"""
    tiles: int
    """new tiles of theirs"""
    left_out: int
    """their windows with too few pixels that hold data"""


@dataclass
class SceneBatch:
    """Scenes that are read and not yet in the catalog, with their unpacked files.

    The files are synced at once, moved under their opaque names, and the rows follow in one transaction: after a crash the catalog knows
    of no scene whose file is not whole, and a file without a scene is swept by the next ingest.
    """

    workspace: Workspace
    ground: Literal["train", "dev", "test"] | None = None
    """the split of all of them, where they have one of their own"""
    _scenes: dict[str, tuple[Scene, CutScene]] = field(default_factory=dict)
    _files: dict[Path, Path] = field(default_factory=dict)
    _bytes: int = 0
    _tiles: int = 0
    _begun: float = 0.0
    _unpacked: int = 0

    def __post_init__(self) -> None:
        """Read what is known, and make a folder for what is unpacked."""
        with self.workspace.session(write=False) as session:
            self._known = sources.content_hashes(session)
        self._scratch = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self.workspace.temporary))

    def new_file(self) -> Path:
        """Where the next image can be unpacked; it is gone when the batch is closed."""
        self._unpacked += 1
        return self._scratch / f"{UNPACKED_NAME}{self._unpacked}"

    def scene(self, digest: str) -> Scene | None:
        """The scene of that content, here or in the catalog."""
        if digest in self._scenes:
            return self._scenes[digest][0]
        if digest not in self._known:
            return None
        with self.workspace.session(write=False) as session:
            return sources.scene_by_hash(session, digest)

    def holds(self, digest: str) -> bool:
        """Whether the scene of that content waits here, without an id."""
        return digest in self._scenes

    def rename(self, scene: Scene, source_id: int, name: str) -> None:
        """Remember that the pixels of ``scene`` came in as ``name`` too."""
        assert scene.content_hash not in self._scenes, "it has an id once it is entered"
        with self.workspace.session() as session:
            add_alias(session, scene, source_id, name)

    def add(self, scene: Scene, cut: CutScene, file: Path | None) -> None:
        """Join a scene that is new.

        Args:
            scene: its row, without an id.
            cut: its windows.
            file: where it was unpacked, to be moved to ``scene.path``; None for one that stays where it is.
        """
        if not self._scenes:
            self._begun = time.monotonic()
        self._scenes[scene.content_hash] = scene, cut
        self._tiles += len(cut.windows)
        if file is not None:
            self._files[file] = self.workspace.root / scene.path
            self._bytes += file.stat().st_size

    @property
    def is_full(self) -> bool:
        """Whether a crash would cost more than what a sync costs."""
        held = len(self._scenes) >= MOST_SCENES or self._tiles >= MOST_TILES or self._bytes >= MOST_BYTES
        return held or (bool(self._scenes) and time.monotonic() - self._begun >= MOST_SECONDS)

    def enter(self) -> Entered:
        """Bring all of it into the catalog; the batch is empty then."""
        if not self._scenes:
            return Entered([], 0, 0)
        place(self._files)
        tiles = 0
        with self.workspace.session() as session:
            for scene, cut in self._scenes.values():
                scene.id = first_id_of(session, Scene)
                session.add(scene)
                session.flush()
                tiles += len(add_tiles(session, scene, cut.windows, cut.hashes, split=self.ground))
        self._known.update(self._scenes)
        entered = Entered([scene.id for scene, _ in self._scenes.values()], tiles, sum(cut.left_out for _, cut in self._scenes.values()))
        self._scenes, self._files, self._bytes, self._tiles = {}, {}, 0, 0
        return entered

    def close(self) -> None:
        """Remove what was unpacked and never entered."""
        shutil.rmtree(self._scratch, ignore_errors=True)
