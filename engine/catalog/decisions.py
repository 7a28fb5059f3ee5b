"""What people say of look-alikes: yes or no, many at once, and taken back; and what that says of the scores."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from engine.boxes import box_iou
from engine.catalog import ledger
from engine.catalog.schema import Annotation, LabelSetRow, LedgerEvent, Scene, SearchHit
from engine.catalog.searches import Box, HitRecord, hit_record
from engine.catalog.tiles import TileRecord, tiles
from engine.errors import BadInput, NothingToDo, StaleReview, UsageError

__all__ = [
    "DECIDED",
    "SAME_OBJECT_IOU",
    "SOURCE",
    "ScoreBand",
    "TakenBack",
    "accept_from",
    "decide",
    "dividing_score",
    "score_bands",
    "seconds_spent",
    "take_back_last",
]

SOURCE = "search"
"""``source`` of the annotations that a yes makes."""
SAME_OBJECT_IOU = 0.7
"""A yes to a box that overlaps an accepted one of the same class by this much means that one."""
DECIDED = "search-decision"
"""The ledger's kind of event."""
BANDS = 4
LEAST_IN_A_BAND = 3


@dataclass(frozen=True)
class ScoreBand:
    """Decided look-alikes of scores from ``low`` to ``high``, both included: how many were said to be one, and how many not."""

    low: float
    high: float
    yes: int
    no: int


@dataclass(frozen=True)
class TakenBack:
    """What taking back the last act did: the hits that are open again, and how many somebody has decided otherwise since."""

    hits: tuple[int, ...]
    left: int


def decide(session: Session, hit_id: int, *, accept: bool, label: int | None, annotator: str, seconds: float | None = None) -> HitRecord:
    """Say whether a hit is one of those sought; saying the same again changes nothing.

    A yes makes an accepted annotation, or means the one that is there already: same class, IoU of :data:`SAME_OBJECT_IOU` or more. A no
    takes back what a search's yes made, as long as nobody has changed it since and no other hit means it; it never touches other boxes.

    Args:
        session: an open transaction that may write.
        hit_id: of the hit.
        accept: yes or no.
        label: class number of the object; needed for a yes. Another class than before relabels what this hit made.
        annotator: who says so.
        seconds: what the decision took; None where unknown.

    Raises:
        BadInput: no such hit, or a class that the workspace does not have.
        UsageError: a yes without a class.
    """
    row, tile = _hit(session, hit_id)
    said = {"annotator": annotator} | ({} if seconds is None else {"seconds": round(seconds, 1)})
    if accept:
        _accept(session, row, tile, _known_label(session, label), annotator, said)
    elif row.decision != "no":
        previous = _previous(row)
        taken_back = _take_back(session, row, annotator)
        row.decision, row.annotation_id = "no", None
        ledger.record(session, DECIDED, search=row.search_id, hit=row.id, decision="no", taken_back=taken_back, previous=previous, **said)
    session.flush()
    return hit_record(row, tile)


def accept_from(session: Session, search_id: int, score: float, *, expected: int, label: int | None, annotator: str) -> int:
    """Say yes to every undecided hit of a search of this score or more, in one act; returns how many they were.

    Args:
        session: an open transaction that may write.
        search_id: of the search.
        score: the lowest one.
        expected: how many the person was told that there are.
        label: class number of the objects.
        annotator: who says so.

    Raises:
        BadInput: a class that the workspace does not have.
        UsageError: no class.
        StaleReview: they are more or fewer by now; nothing is decided.
    """
    query = select(SearchHit).where(SearchHit.search_id == search_id, SearchHit.decision.is_(None), SearchHit.score >= score)
    rows = list(session.scalars(query.order_by(SearchHit.position)))
    if len(rows) != expected:
        raise StaleReview(
            f"{len(rows)} undecided look-alikes of {score:.2f} or more",
            expected=f"the {expected} that were asked about",
            remedy="Look at them and ask again; nothing was decided",
        )
    number, act = _known_label(session, label), secrets.token_hex(4)
    known = {tile.id: tile for tile in tiles(session, ids=sorted({row.tile_id for row in rows}))}
    for row in rows:
        _accept(session, row, known[row.tile_id], number, annotator, {"annotator": annotator, "act": act})
    session.flush()
    return len(rows)


def take_back_last(session: Session, search_id: int, *, annotator: str) -> TakenBack:
    """Undo the last act that somebody did on a search: one decision, or all those made at once; then the one before it, and so on.

    A hit that was decided otherwise since stays as it is, and so does a box that somebody has changed.

    Raises:
        NothingToDo: that person decided nothing there that is not taken back.
    """
    acts = _acts(session, search_id, annotator)
    if not acts:
        raise NothingToDo("no decision of yours to take back", remedy="Decide on a look-alike first")
    last = acts[-1].details.get("act")
    undone = acts[-1:] if last is None else [event for event in acts if event.details.get("act") == last]
    open_again = [event.details["hit"] for event in reversed(undone) if _restore(session, event, annotator)]
    session.flush()
    return TakenBack(tuple(open_again), len(undone) - len(open_again))


def seconds_spent(session: Session, search_id: int) -> float:
    """Seconds that the decisions on a search took, as far as they were counted."""
    says = LedgerEvent.details
    query = select(LedgerEvent).where(LedgerEvent.kind == DECIDED, says["search"].as_integer() == search_id)
    return float(sum(event.details.get("seconds", 0.0) for event in session.scalars(query)))


def score_bands(found: Sequence[HitRecord]) -> list[ScoreBand]:
    """How often a score was right so far: the decided hits by falling score, in up to four bands of about as many each."""
    decided = sorted((hit for hit in found if hit.decision is not None), key=lambda hit: (-hit.score, hit.position))
    count = min(BANDS, len(decided) // LEAST_IN_A_BAND)
    edges = [round(len(decided) * band / count) for band in range(count + 1)] if count else []
    parts = [decided[start:end] for start, end in itertools.pairwise(edges)]
    return [
        ScoreBand(part[-1].score, part[0].score, *(sum(hit.decision == said for hit in part) for said in ("yes", "no"))) for part in parts
    ]


def dividing_score(found: Sequence[HitRecord]) -> float | None:
    """The score that parts yes from no with the fewest mistakes, the highest of equals; None before both were said."""
    decided = sorted((hit for hit in found if hit.decision is not None), key=lambda hit: -hit.score)
    yes = np.asarray([hit.decision == "yes" for hit in decided], dtype=np.int64)
    if not len(yes) or yes.all() or not yes.any():
        return None
    above = np.arange(1, len(yes) + 1)
    mistakes = (above - yes.cumsum()) + (yes.sum() - yes.cumsum())
    scores = np.asarray([hit.score for hit in decided])
    mistakes[:-1][scores[:-1] == scores[1:]] = len(yes) + 1
    best = int(mistakes.argmin())
    return float(scores[best] if best + 1 == len(scores) else (scores[best] + scores[best + 1]) / 2)


def _acts(session: Session, search_id: int, annotator: str) -> list[LedgerEvent]:
    """What somebody decided on a search and has not taken back, in order."""
    says = LedgerEvent.details
    query = select(LedgerEvent).where(LedgerEvent.kind == DECIDED, says["search"].as_integer() == search_id)
    mine = [event for event in session.scalars(query.order_by(LedgerEvent.id)) if event.details.get("annotator") == annotator]
    undone = {event.details["undoes"] for event in mine if "undoes" in event.details}
    return [event for event in mine if event.id not in undone and "undoes" not in event.details]


def _restore(session: Session, event: LedgerEvent, annotator: str) -> bool:
    """Make a hit what it was before ``event``; says whether that is open, or decided otherwise, again."""
    said: dict[str, Any] = event.details
    row = session.get_one(SearchHit, said["hit"])
    stands = row.decision == said["decision"] and row.annotation_id == said.get("annotation")
    restored: dict[str, Any] = {"decision": row.decision, "annotation": row.annotation_id, "made": False, "version": None}
    if stands:
        _take_back(session, row, annotator)
        before = said.get("previous") or {"decision": None, "annotation": None}
        row.decision, row.annotation_id = before["decision"], before["annotation"]
        restored |= before
        meant = session.get(Annotation, row.annotation_id) if row.annotation_id is not None else None
        if meant is not None and meant.state == "deleted" and meant.id == said.get("taken_back"):
            meant.state, meant.annotator, meant.version = "accepted", annotator, meant.version + 1
            restored |= {"made": True, "version": meant.version}
    ledger.record(session, DECIDED, search=row.search_id, hit=row.id, annotator=annotator, undoes=event.id, **restored)
    return stands


def _hit(session: Session, hit_id: int) -> tuple[SearchHit, TileRecord]:
    row = session.get(SearchHit, hit_id)
    tile = next(iter(tiles(session, ids=[row.tile_id])), None) if row else None
    if row is None or tile is None:
        raise BadInput(f"no look-alike {hit_id}", remedy="Open the search again")
    return row, tile


def _previous(row: SearchHit) -> dict[str, Any]:
    return {"decision": row.decision, "annotation": row.annotation_id}


def _known_label(session: Session, label: int | None) -> int:
    if label is None:
        raise UsageError("a yes without a class", expected="the number of a class", remedy="Choose what a yes is")
    names = session.get(LabelSetRow, 1)
    classes = len(names.names) if names else 0
    if not 0 <= label < classes:
        raise BadInput(f"the class number {label}", expected=f"one of the workspace's {classes} classes", remedy="Choose a class")
    return label


def _accept(session: Session, row: SearchHit, tile: TileRecord, label: int, annotator: str, said: dict[str, Any]) -> None:
    meant = session.get(Annotation, row.annotation_id) if row.annotation_id is not None else None
    if row.decision == "yes" and meant is not None and meant.state == "accepted" and meant.label == label:
        return
    previous, taken_back = _previous(row), _take_back(session, row, annotator)
    box = _in_scene(session, row, tile)
    found = _same_object(session, tile.scene_id, box, label)
    if found is None:
        x1, y1, x2, y2 = box
        found = Annotation(scene_id=tile.scene_id, x1=x1, y1=y1, x2=x2, y2=y2, label=label, source=SOURCE, annotator=annotator)
        session.add(found)
        session.flush()
        made = True
    else:
        made = False
    row.decision, row.annotation_id = "yes", found.id
    details = {"search": row.search_id, "hit": row.id, "annotation": found.id, "version": found.version, "made": made}
    ledger.record(session, DECIDED, decision="yes", **details, taken_back=taken_back, previous=previous, **said)


def _in_scene(session: Session, row: SearchHit, tile: TileRecord) -> Box:
    """The hit's box in scene pixels, clipped to the scene."""
    scene = session.get_one(Scene, tile.scene_id)
    x, y = tile.window.x, tile.window.y
    shifted = [row.x1_tile + x, row.y1_tile + y, row.x2_tile + x, row.y2_tile + y]
    x1, y1, x2, y2 = np.clip(shifted, 0, [scene.width, scene.height] * 2).tolist()
    if x2 <= x1 or y2 <= y1:
        raise BadInput(f"look-alike {row.id} lies outside its scene", remedy="Search again")
    return x1, y1, x2, y2


def _same_object(session: Session, scene_id: int, box: Box, label: int) -> Annotation | None:
    """The accepted annotation of that class that overlaps ``box`` most, if it does by :data:`SAME_OBJECT_IOU`."""
    query = select(Annotation).where(Annotation.scene_id == scene_id, Annotation.state == "accepted", Annotation.label == label)
    rows = list(session.scalars(query.order_by(Annotation.id)))
    if not rows:
        return None
    overlap = box_iou(np.asarray([box]), np.asarray([(row.x1, row.y1, row.x2, row.y2) for row in rows], dtype=np.float64))[0]
    best = int(overlap.argmax())
    return rows[best] if overlap[best] >= SAME_OBJECT_IOU else None


def _take_back(session: Session, row: SearchHit, annotator: str) -> int | None:
    """Delete what this hit means, if a search made it, nobody changed it since and no other hit means it; return its id."""
    if row.decision != "yes" or row.annotation_id is None:
        return None
    made = session.get_one(Annotation, row.annotation_id)
    says = LedgerEvent.details
    query = select(LedgerEvent).where(LedgerEvent.kind == DECIDED, says["annotation"].as_integer() == made.id)
    events = list(session.scalars(query.order_by(LedgerEvent.id)))
    others = session.scalar(select(func.count()).where(SearchHit.annotation_id == made.id, SearchHit.id != row.id))
    if made.state != "accepted" or others or not any(each.details["made"] and each.details["version"] == made.version for each in events):
        return None
    made.state, made.annotator, made.version = "deleted", annotator, made.version + 1
    return made.id
