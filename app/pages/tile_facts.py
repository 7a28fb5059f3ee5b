"""What is said beside a tile on the page Review."""

from __future__ import annotations

from collections.abc import Sequence

from app.pages import text
from app.pages.drawing import colours
from engine.boxes import Boxes
from engine.catalog.reviews import TileState
from engine.catalog.schema import RoundTile
from engine.catalog.tiles import TileRecord
from engine.label_set import LabelSet

__all__ = ["about", "legend", "queue"]

HIT_PIXELS = 200


def about(state: TileState, suggested: Boxes, chosen: RoundTile | None, hits: Sequence[int]) -> str:
    """Where the tile lies, what is on it, who looked, and why it was chosen, with the look-alikes ``hits`` in question."""
    tile = state.tile
    facts = {
        "Scene": f"{tile.scene_name}, at {tile.window.x}, {tile.window.y}",
        "Ground": tile.split,
        "Boxes": f"{len(state.boxes_tile)} accepted, {len(suggested)} suggested by the detector (yellow)",
        "Looked at": f"by {state.by}" if state.reviewed else "not yet",
    }
    reasons = {} if chosen is None else chosen.reasons
    if reasons.get("why"):
        facts["Chosen because"] = reasons["why"]
    asked = [(f"/hits/{hit}.png?width={HIT_PIXELS}&tile={tile.id}", "Is this one?") for hit in hits]
    return text.definitions(facts) + (text.gallery(asked, width=HIT_PIXELS) if asked and not state.reviewed else "")


def legend(known: LabelSet | None) -> str:
    """The classes with their digits and colours."""
    return text.classes(colours(known.names)) if known else ""


def queue(waiting: Sequence[TileRecord]) -> str:
    """The tiles that wait, as pictures."""
    if not waiting:
        return text.note("No tile waits.")
    return text.gallery([(f"/tiles/{tile.id}.png?width=96", str(tile.id), f"/review?tile={tile.id}") for tile in waiting], width=96)
