"""What a label file makes of the annotations of one scene: boxes that are new, known, moved out of sight or gone."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.boxes import visible_share
from engine.catalog import ledger
from engine.catalog.annotations import MINIMUM_VISIBLE_SHARE, mark_reviewed
from engine.catalog.reviews import SAME_EDGE_PIXELS
from engine.catalog.schema import Annotation, Review, Scene, Tile
from engine.catalog.splits import NO_SPLIT
from engine.catalog.tiles import chunks, window_of
from engine.errors import BadInput

__all__ = ["Changes", "Key", "SceneState", "fitted_source", "load_states", "settle_source", "write_boxes"]

Key = tuple[int, float, float, float, float]
"""A box as it is told apart from others: its label, x1, y1, x2, y2 in scene pixels."""
LONGEST_SOURCE = 64
"""Characters of the name that boxes are known by."""


@dataclass
class Changes:
    """What an import changed so far: boxes, and tiles that count as reviewed since."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    reviewed_tiles: int = 0


@dataclass(frozen=True)
class SceneState:
    """What the catalog holds of one scene: its row, tiles that have a split, those already reviewed, its annotations."""

    scene: Scene
    tiles: list[Tile]
    reviewed: set[int]
    annotations: list[Annotation]


def load_states(session: Session, scene_ids: Sequence[int]) -> dict[int, SceneState]:
    """The states of these scenes by their ids."""
    states: dict[int, SceneState] = {}
    for chunk in chunks(scene_ids):
        for scene in session.scalars(select(Scene).where(Scene.id.in_(chunk))):
            states[scene.id] = SceneState(scene, [], set(), [])
        for tile in session.scalars(select(Tile).where(Tile.scene_id.in_(chunk), Tile.split != NO_SPLIT).order_by(Tile.id)):
            states[tile.scene_id].tiles.append(tile)
        reviewed = select(Tile.scene_id, Tile.id).join(Review, Review.tile_id == Tile.id).where(Tile.scene_id.in_(chunk))
        for scene_id, tile_id in session.execute(reviewed):
            states[scene_id].reviewed.add(tile_id)
        for row in session.scalars(select(Annotation).where(Annotation.scene_id.in_(chunk)).order_by(Annotation.id)):
            states[row.scene_id].annotations.append(row)
    return states


def fitted_source(name: str) -> str:
    """``name`` where it is short enough for the catalog; else its beginning and eight hexadecimal digits of the whole."""
    if len(name) <= LONGEST_SOURCE:
        return name
    return f"{name[: LONGEST_SOURCE - 9]}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def settle_source(session: Session, states: Mapping[int, SceneState], wanted: Mapping[int, Sequence[Key]], name: str, origin: str) -> str:
    """What the boxes of a file called ``name`` are known by, so that they replace those of its earlier version and of no other file.

    In turn: the source of that name that came from the same ``origin``; one that has a box at the place of one in ``wanted``, whatever
    their labels; the first of ``name``, ``name (2)``, ``name (3)`` that no annotation has.

    Args:
        session: an open transaction.
        states: of the scenes that the file names, by their ids.
        wanted: its boxes by scene id.
        name: of any length.
        origin: where the file lies and how it was read; empty where nobody can say.
    """
    known: list[str] = []
    for number in itertools.count(1):
        source = fitted_source(name if number == 1 else f"{name} ({number})")
        if session.scalar(select(Annotation.id).where(Annotation.source == source).limit(1)) is None:
            break
        known.append(source)
    came_from = {event.details.get("source"): event.details.get("origin") for event in ledger.events(session, "labels")}
    same = [one for one in known if origin and came_from.get(one) == origin]
    return next(itertools.chain(same, (one for one in known if _shares_a_box(states, wanted, one)), [source]))


def _shares_a_box(states: Mapping[int, SceneState], wanted: Mapping[int, Sequence[Key]], source: str) -> bool:
    from scipy.spatial import KDTree

    for scene_id, keys in wanted.items():
        rows = [(0, row.x1, row.y1, row.x2, row.y2) for row in states[scene_id].annotations if row.source == source]
        if rows and keys and (KDTree(_points(rows)).query(_points([(0, *key[1:]) for key in keys]), p=np.inf)[0] <= SAME_EDGE_PIXELS).any():
            return True
    return False


def write_boxes(
    session: Session, state: SceneState, wanted: Sequence[Key], *, source: str, withhold: bool, complete: bool, changes: Changes
) -> None:
    """Make what ``source`` says of a scene ``wanted``: boxes that it said before and says no more are deleted.

    A box with the label and, within :data:`engine.catalog.reviews.SAME_EDGE_PIXELS`, the edges of one that is there is that one, whoever
    brought it.

    Args:
        session: an open transaction.
        state: of the scene; rows that are added here join it.
        wanted: distinct boxes inside the scene.
        source: the file that they come from.
        withhold: keep those on train ground for the oracle, but where a tile that shows them is reviewed already.
        complete: the scene's tiles count as reviewed, with ``withhold`` those on dev and test ground.
        changes: counted on.

    Raises:
        BadInput: another source withholds labels of this scene, and these would stand for all of it.
    """
    if not withhold:
        _require_nothing_withheld(state, source)
    shown = [tile for tile in state.tiles if not withhold or tile.split != "train"]
    open_tiles = shown + [tile for tile in state.tiles if tile.id in state.reviewed]
    given = _states(wanted, open_tiles) if withhold else ["accepted"] * len(wanted)
    before = [row for row in state.annotations if row.source == source and row.state != "deleted"]
    known = _known(state.annotations, wanted, source)
    for key, row, box_state in zip(wanted, known, given, strict=True):
        if row is None:
            label, x1, y1, x2, y2 = key
            fresh = Annotation(scene_id=state.scene.id, x1=x1, y1=y1, x2=x2, y2=y2, label=label, source=source, state=box_state)
            session.add(fresh)
            state.annotations.append(fresh)
            changes.added += 1
        elif (row.state == "withheld" and box_state == "accepted") or _removed_by_import(row):
            _change(row, box_state, annotator=None)
            changes.changed += 1
        else:
            changes.unchanged += 1
    said = {id(row) for row in known if row is not None}
    for row in before:
        if id(row) not in said:
            _change(row, "deleted", annotator=source)
            changes.removed += 1
    if complete:
        changes.reviewed_tiles += mark_reviewed(session, [tile.id for tile in shown], by=source)


def _known(rows: Sequence[Annotation], wanted: Sequence[Key], source: str) -> list[Annotation | None]:
    """For each box the row that is it, or None; a row of ``source`` goes before the same box of another."""
    from scipy.spatial import KDTree

    ordered = sorted(rows, key=lambda row: row.source == source)
    distinct = list({(row.label, row.x1, row.y1, row.x2, row.y2): row for row in ordered}.values())
    if not distinct or not wanted:
        return [None] * len(wanted)
    tree = KDTree(_points([(row.label, row.x1, row.y1, row.x2, row.y2) for row in distinct]))
    distance, nearest = tree.query(_points(wanted), p=np.inf)
    return [distinct[index] if gap <= SAME_EDGE_PIXELS else None for gap, index in zip(distance, nearest.tolist(), strict=True)]


def _points(keys: Sequence[Key]) -> NDArray[np.float64]:
    """Points (N, 5): two of one label with nearly the same edges lie close in every axis, those of two labels at least 1 apart."""
    return np.asarray(keys, dtype=np.float64).reshape(-1, 5)


def _states(wanted: Sequence[Key], open_tiles: Sequence[Tile]) -> list[str]:
    """``accepted`` for boxes that show in one of ``open_tiles``, ``withheld`` for the rest."""
    xyxy = np.asarray([key[1:] for key in wanted], dtype=np.float64).reshape(-1, 4)
    seen = np.zeros(len(xyxy), dtype=bool)
    for tile in open_tiles:
        seen |= visible_share(xyxy, window_of(tile).xyxy) >= MINIMUM_VISIBLE_SHARE
    return ["accepted" if shows else "withheld" for shows in seen]


def _require_nothing_withheld(state: SceneState, source: str) -> None:
    for row in state.annotations:
        if row.state == "withheld" and row.source != source:
            raise BadInput(
                f"the scene {state.scene.name!r} has labels of {row.source} withheld, so {source} cannot stand for all of it",
                expected="an import that withholds too",
                remedy="Import it with --withhold, or the withheld file without",
            )


def _removed_by_import(row: Annotation) -> bool:
    return row.state == "deleted" and row.annotator == row.source


def _change(row: Annotation, state: str, *, annotator: str | None) -> None:
    row.state, row.annotator = state, annotator
    row.version += 1
