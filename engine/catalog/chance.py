"""Which labelled tiles nobody chose: what a replay may take for a sample of the archive."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.catalog import ledger
from engine.catalog.rounds import AUDIT, rounds, tile_links
from engine.catalog.schema import Review
from engine.catalog.tiles import chunks

__all__ = ["drawn_by_chance"]

BY_CHANCE = "random"


def drawn_by_chance(session: Session, tile_ids: Sequence[int]) -> set[int]:
    """Of reviewed tiles those that are known not to have been chosen.

    That is: in the newest round that wanted their labels they were drawn at random, alone or in its slice by chance; or no round wanted
    them, and a label file said what is on them. A tile that somebody opened by himself may have been chosen, and so does not count.
    """
    drawn_in = {row.id: row.strategy == BY_CHANCE for row in rounds(session) if row.strategy != AUDIT}
    wanted = {tile: [link for link in links if link.round_id in drawn_in] for tile, links in tile_links(session, tile_ids).items()}
    newest = {tile: links[-1] for tile, links in wanted.items() if links}
    files = {event.details["source"] for event in ledger.events(session, "labels")}
    said = [select(Review.tile_id).where(Review.tile_id.in_(chunk), Review.by.in_(files)) for chunk in chunks(tile_ids)]
    imported = {tile for each in said for tile in session.scalars(each)}
    drawn = {tile for tile, link in newest.items() if drawn_in[link.round_id] or link.reasons.get("audit")}
    return drawn | (imported - set(newest))
