"""Where an annotation server's pages get the pictures of tiles from: this app, the server's own disk, or files that were uploaded to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from engine.annotation_server import AnnotationServer
from engine.catalog.pixels import TilePixels
from engine.catalog.tiles import TileRecord
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.evaluation.drawing import png_bytes, write_png
from engine.files import inside

__all__ = ["LocalPictures", "SignedPictures", "TaskPictures", "UploadedPictures"]

OURS = "tilehawk"
HASH_SHOWN = 16
UPLOADED_AT_ONCE = 20
"""Pictures in one request: a megabyte or two."""

GoingOn = Callable[[], None]


class TaskPictures(Protocol):
    """The pictures of the tasks of a push."""

    def address(self, tile: TileRecord) -> str:
        """Of a tile's picture as it is known before the picture is there; what stands before a ``?`` changes with its pixels alone."""

    def prepare(self, server: AnnotationServer, project_id: int) -> None:
        """Make the project ready for them; repeating it changes nothing."""

    def provide(self, workspace: Workspace, tiles: Sequence[TileRecord], going_on: GoingOn, /) -> Mapping[int, str]:
        """Bring those to their place that are not there; returns by tile the addresses that became known by that.

        ``going_on`` is called before each step, and ends it where it raises.

        Raises:
            BadInput: a scene is gone or damaged.
        """


class SignedPictures:
    """Pictures that the app serves.

    Args:
        image_url: by tile id, the signed address.
    """

    def __init__(self, image_url: Callable[[int], str]) -> None:
        self._image_url = image_url

    def address(self, tile: TileRecord) -> str:
        """The signed address."""
        return self._image_url(tile.id)

    def prepare(self, server: AnnotationServer, project_id: int) -> None:
        """Nothing is needed."""

    def provide(self, _workspace: Workspace, _tiles: Sequence[TileRecord], _going_on: GoingOn, /) -> Mapping[int, str]:
        """They are made when they are asked for."""
        return {}


class LocalPictures:
    """Pictures below a folder that a server serves from its own disk; their names change with the pixels.

    Args:
        root: that folder as it is seen from here.
        root_there: the same as the server sees it.
        key: the workspace's own name, which its pictures lie below.

    Raises:
        BadInput: there is no such folder.
    """

    def __init__(self, root: Path, root_there: str, key: str) -> None:
        if not root.is_dir():
            raise BadInput(
                f"{root} is no folder", expected="the folder that the annotation server serves files from", remedy="Mount it, or make it"
            )
        self._root, self._root_there = root, root_there
        self._folder = f"{OURS}/{key}"

    def address(self, tile: TileRecord) -> str:
        """The path and query by which the server's own pages load the tile's picture."""
        return f"/data/local-files/?d={quote(self._name(tile))}"

    def prepare(self, server: AnnotationServer, project_id: int) -> None:
        """Make the folder that they go to, which a server may want to see first, and let it serve that."""
        inside(self._root, self._folder).mkdir(parents=True, exist_ok=True)
        server.serve_pictures(project_id, f"{self._root_there}/{self._folder}")

    def provide(self, workspace: Workspace, tiles: Sequence[TileRecord], going_on: GoingOn, /) -> Mapping[int, str]:
        """Write the pictures that are not there yet, each whole or not at all."""
        with TilePixels(workspace) as pixels:
            for tile in tiles:
                going_on()
                path = inside(self._root, self._name(tile))
                if not path.exists():
                    write_png(path, pixels.read(tile))
        return {}

    def _name(self, tile: TileRecord) -> str:
        return f"{self._folder}/{_file_name(tile)}"


class UploadedPictures:
    """Pictures that are uploaded to the server once, and found again there by their names, whatever cut a push off."""

    def __init__(self) -> None:
        self._server: AnnotationServer | None = None
        self._project_id = 0
        self._there: dict[str, str] | None = None

    def address(self, tile: TileRecord) -> str:
        """A name, in place of the address that the server will give."""
        return f"uploaded:{self._name(tile)}"

    def prepare(self, server: AnnotationServer, project_id: int) -> None:
        """Nothing is asked of the project before there is something to upload."""
        self._server, self._project_id, self._there = server, project_id, None

    def provide(self, workspace: Workspace, tiles: Sequence[TileRecord], going_on: GoingOn, /) -> Mapping[int, str]:
        """Upload the pictures that are not there yet; the addresses of all."""
        assert self._server is not None
        if self._there is None:
            self._there = dict(self._server.pictures(self._project_id))
        lacking = [tile for tile in tiles if self._name(tile) not in self._there]
        with TilePixels(workspace) as pixels:
            for start in range(0, len(lacking), UPLOADED_AT_ONCE):
                going_on()
                some = lacking[start : start + UPLOADED_AT_ONCE]
                drawn = {self._name(tile): png_bytes(pixels.read(tile)) for tile in some}
                self._there |= self._server.upload_pictures(self._project_id, drawn)
        return {tile.id: self._there[self._name(tile)] for tile in tiles}

    def _name(self, tile: TileRecord) -> str:
        return f"{OURS}-{_file_name(tile)}"


def _file_name(tile: TileRecord) -> str:
    return f"{tile.id}-{tile.content_hash[:HASH_SHOWN]}.png"
