"""The models of the workspace, asked by the app itself: by one thread, one question at a time, however many come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from engine.errors import WorkspaceBusy

if TYPE_CHECKING:
    from app.settings import Settings
    from engine.annotation_server import Suggestion
    from engine.boxes import Boxes
    from engine.catalog.workspace import Workspace

__all__ = ["Answering", "Suggester", "suggester_of"]

MOST_WAITING = 32
TILES_A_TURN = 4
"""A long question for many tiles lets others in between."""

Result = TypeVar("Result")


class Answering(Protocol):
    """What :class:`engine.stages.suggest.TileSuggestions` does."""

    def on_tiles(self, tile_ids: Sequence[int]) -> dict[int, Suggestion]:
        """By tile id, what an annotator is shown."""

    def look_alikes(self, tile_id: int, drawn: Boxes) -> Suggestion | None:
        """What on the tile looks like these boxes, without them; None for an unknown tile."""


class Suggester:
    """Asks in a thread of its own, so that neither the server's loop nor its other threads wait for a model.

    Args:
        make: makes what answers, at the first question.
    """

    def __init__(self, make: Callable[[], Answering]) -> None:
        self._make = make
        self._answering: Answering | None = None
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="suggestions")

    async def on_tiles(self, tile_ids: Sequence[int]) -> dict[int, Suggestion]:
        """By tile id, what an annotator is shown; unknown tiles are left out.

        Raises:
            WorkspaceBusy: too many wait already.
        """
        found: dict[int, Suggestion] = {}
        for start in range(0, len(tile_ids), TILES_A_TURN):
            some = tile_ids[start : start + TILES_A_TURN]
            found |= await self._turn(some)
        return found

    async def _turn(self, some: Sequence[int]) -> dict[int, Suggestion]:
        return await self._ask(lambda answering: answering.on_tiles(some))

    async def look_alikes(self, tile_id: int, drawn: Boxes) -> Suggestion | None:
        """What on the tile looks like these boxes, without them; None for an unknown tile.

        Raises:
            WorkspaceBusy: too many wait already.
        """
        return await self._ask(lambda answering: answering.look_alikes(tile_id, drawn))

    async def _ask(self, question: Callable[[Answering], Result]) -> Result:
        if self._waiting >= MOST_WAITING:
            raise WorkspaceBusy(f"{self._waiting} questions wait for the models", expected="fewer at once", remedy="Ask again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_turn, question)
        finally:
            self._waiting -= 1

    def _in_turn(self, question: Callable[[Answering], Result]) -> Result:
        if self._answering is None:
            self._answering = self._make()
        return question(self._answering)


def suggester_of(workspace: Workspace, settings: Settings) -> Suggester:
    """What the workspace's models say; the first question loads what they are made with, which takes seconds."""

    def make() -> Answering:
        from engine.stages.suggest import SuggestConfig, TileSuggestions

        least = settings.look_alike_score
        given = {} if least is None else {"asked_score": least, "likeness": least}
        return TileSuggestions(workspace, SuggestConfig.from_mapping({"shown_score": settings.shown_score, **given}))

    return Suggester(make)
