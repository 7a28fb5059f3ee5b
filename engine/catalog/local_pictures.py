"""Pictures of tiles in a folder that an annotation server serves from its own disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from engine.catalog.pixels import TilePixels
from engine.catalog.tiles import TileRecord
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.evaluation.drawing import write_png
from engine.files import inside

__all__ = ["LocalPictures"]

OURS = "tilehawk"
HASH_SHOWN = 16


class LocalPictures:
    """The pictures of a workspace's tiles below the folder that a server serves; their names change with the pixels.

    Args:
        root: that folder as it is seen from here.
        key: the workspace's own name, which its pictures lie below.

    Raises:
        BadInput: there is no such folder.
    """

    def __init__(self, root: Path, key: str) -> None:
        if not root.is_dir():
            raise BadInput(
                f"{root} is no folder", expected="the folder that the annotation server serves files from", remedy="Mount it, or make it"
            )
        self._root = root
        self.folder = f"{OURS}/{key}"
        """where they lie below the root"""

    def address(self, tile: TileRecord) -> str:
        """The path and query by which the server's own pages load the tile's picture."""
        return f"/data/local-files/?d={quote(self._name(tile))}"

    def prepare(self) -> None:
        """Make the folder that they go to: a server may want to see it first."""
        inside(self._root, self.folder).mkdir(parents=True, exist_ok=True)

    def write(self, workspace: Workspace, tiles: Sequence[TileRecord]) -> None:
        """Write the pictures that are not there yet, each whole or not at all.

        Raises:
            BadInput: a scene is gone or damaged.
        """
        with TilePixels(workspace) as pixels:
            for tile in tiles:
                path = inside(self._root, self._name(tile))
                if not path.exists():
                    write_png(path, pixels.read(tile))

    def _name(self, tile: TileRecord) -> str:
        return f"{self.folder}/{tile.id}-{tile.content_hash[:HASH_SHOWN]}.png"
