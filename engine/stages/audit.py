"""``audit``: labels that the newest detector confidently disagrees with go back to a person, for a bounded share of the budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sqlalchemy.orm import Session

from engine.boxes import Boxes, box_iou
from engine.catalog import ledger
from engine.catalog.candidates import RankingPredictions, ranking_candidates
from engine.catalog.costs import cost_model
from engine.catalog.pixels import TilePixels
from engine.catalog.predictions import get_prediction_set, prediction_sets, predictions_directory
from engine.catalog.rounds import AUDIT, ChosenTile, add_round, round_tiles, rounds
from engine.catalog.schema import ModelRow
from engine.catalog.spending import tile_spending
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, NothingToDo, UnreadableImage
from engine.evaluation.drawing import contact_sheet, draw_boxes
from engine.inference.predictions import Predictions
from engine.progress import Progress, silent, track
from engine.selection.audit import Disagreement, DisagreementConfig, disagreements, most_suspicious
from engine.selection.candidates import Candidates
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig
from engine.selection.detections import ObjectConfig, keep_objects

__all__ = ["AuditConfig", "AuditReport", "DoubtfulTile", "audit"]

SHEET, SHEET_CELL = "audit.png", 320


class AuditConfig(StageConfig):
    """When the detector is believed, and how much looking again may cost."""

    predictions: str | None = None
    """Name of a detector's prediction set on the labelled tiles; none for the newest that covers them."""
    budget_seconds: float | None = Field(default=None, gt=0)
    """What looking again may cost; none for what is left of ``share``."""
    share: float = Field(default=0.02, gt=0, le=0.2)
    """Of the seconds that were spent on annotation so far; all audits together may cost as much."""
    least_seconds: float = Field(default=120.0, gt=0)
    """That is never taken to be less than this."""
    disagreement: DisagreementConfig = DisagreementConfig()
    """When the detector is believed rather than the label."""
    objects: ObjectConfig = ObjectConfig(minimum_score=0.02)
    """Which queries count as objects."""
    prices: Prices = Prices()
    """Seconds for each act, as long as no visit was timed; fitted prices are held to them."""
    fit: CostFitConfig = CostFitConfig()
    """How prices are learned from measured visits."""
    sheet_tiles: int = Field(default=24, ge=0, le=99)
    """At most so many tiles in the picture."""


@dataclass(frozen=True)
class DoubtfulTile:
    """A tile to look at again, and what the detector would have otherwise; ``seconds`` expected."""

    tile_id: int
    scene: str
    seconds: float
    why: str
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True)
class AuditReport:
    """What the detector disagrees with, and the round in which a person looks again; no round where there is nothing to look at."""

    round: int | None
    predictions: str
    labelled_tiles: int
    labels: int
    disagreements: dict[str, int]
    budget_seconds: float
    estimated_seconds: float
    tiles: tuple[DoubtfulTile, ...]
    picture: str | None


def audit(workspace: Workspace, config: AuditConfig, *, progress: Progress = silent) -> AuditReport:
    """Open a round of labelled tiles on which the detector confidently disagrees; the Review page shows them again.

    The detector learned from these very labels, so what it still disagrees with is worth a look; the label is not thereby wrong. A tile
    of an audit that nobody has finished is not asked for twice. Of a tile that was looked at again, no older predictions ask, and newer
    ones only for something else.

    Raises:
        NothingToDo: no tile of the training ground is labelled, or some are doubtful and the budget pays for none of them.
        BadInput: no predictions of a detector cover the labelled tiles, or those named do not.
    """
    with workspace.worker_lock("audit"):
        with workspace.session(write=False) as session:
            labelled = tiles(session, split="train", reviewed=True)
            if not labelled:
                raise NothingToDo("no tile of the training ground is labelled", remedy="Annotate a round, or bring labels in")
            reviewed = {tile.id for tile in labelled}
            seen = _predictions(workspace, session, reviewed, config.predictions)
            candidates = ranking_candidates(session, labelled, reviewed, seen)
            spent = _spent(session)
            before = _audits(session)
            prices = cost_model(session, config.prices, config.fit, detector=True).fitted.prices
        budget = config.budget_seconds or max(max(config.share * spent, config.least_seconds) - before.seconds, 0.0)
        found, seconds = _disagreements(candidates, config, prices, before.waiting)
        found = [each for each in found if not before.answered(each, int(candidates.tile_ids[each.tile]), seen.row.id, config.disagreement)]
        chosen = most_suspicious(found, seconds, budget)
        if found and not chosen:
            raise _too_dear(found, seconds, budget)
        doubtful = [_doubtful(candidates, labelled, row, found, seconds[row]) for row in chosen]
        picture = _draw(workspace, labelled, doubtful, candidates, config.sheet_tiles, progress)
        with workspace.session() as session:
            number = _write(session, doubtful, budget, seen) if doubtful else None
    return AuditReport(
        round=number,
        predictions=seen.row.name,
        labelled_tiles=len(reviewed),
        labels=len(candidates.labelled_objects),
        disagreements=dict(sorted(Counter(each.kind for each in found).items())),
        budget_seconds=budget,
        estimated_seconds=sum(tile.seconds for tile in doubtful),
        tiles=tuple(doubtful),
        picture=picture,
    )


def _predictions(workspace: Workspace, session: Session, reviewed: set[int], name: str | None) -> RankingPredictions:
    """The predictions of that name, or a detector's newest that cover the labelled tiles."""
    wanted = np.asarray(sorted(reviewed), dtype=np.int64)
    for row in [get_prediction_set(session, name)] if name else reversed(prediction_sets(session)):
        if session.get_one(ModelRow, row.model_id).stage == "finetune" and row.tiles >= len(wanted):
            found = Predictions.load(predictions_directory(workspace, row.name))
            if found.covers(wanted):
                return RankingPredictions(row, found, detector=True)
    named = f", and {name!r} are none" if name else ""
    raise BadInput(
        f"no predictions of a detector on the {len(wanted)} labelled tiles{named}",
        expected="a fine-tuned model's predictions on train ground",
        remedy="Run `tilehawk predict --model DETECTOR --split train`",
    )


def _spent(session: Session) -> float:
    """Seconds that annotation took so far, in rounds and outside of them."""
    outside = sum(tile.seconds for tile in tile_spending(session) if tile.round is None)
    return outside + sum(row.measured_seconds or 0.0 for row in rounds(session))


@dataclass(frozen=True, eq=False)
class _Audits:
    """What the audits so far took and will take in ``seconds``, and the tiles ``waiting`` in them.

    By tile that somebody looked at again, what was ``shown`` there, and the id of the ``newest`` predictions that it came from.
    """

    seconds: float
    waiting: set[int]
    shown: dict[int, list[Disagreement]]
    newest: dict[int, int]

    def answered(self, each: Disagreement, tile_id: int, predictions: int, config: DisagreementConfig) -> bool:
        """Whether somebody has looked at what the predictions of that id say of the tile, or at the same disagreement before."""
        if self.newest.get(tile_id, -1) >= predictions:
            return True
        alike = [
            past.box
            for past in self.shown.get(tile_id, [])
            if (past.kind, past.label, past.detected) == (each.kind, each.label, each.detected)
        ]
        return bool(alike) and bool((box_iou(np.array([each.box]), np.array(alike)) >= config.same_iou).any())


def _audits(session: Session) -> _Audits:
    found = _Audits(0.0, set(), {}, {})
    seconds = 0.0
    for row in (row for row in rounds(session) if row.strategy == AUDIT):
        for link in round_tiles(session, row):
            if link.measured_seconds is not None:
                seconds += link.measured_seconds
                found.newest[link.tile_id] = max(row.prediction_set_id or -1, found.newest.get(link.tile_id, -1))
                shown = [Disagreement(**{**each, "box": tuple(each["box"])}) for each in link.reasons.get("disagreements", [])]
                found.shown.setdefault(link.tile_id, []).extend(shown)
            elif row.state == "ranked":
                seconds += link.estimated_seconds
                found.waiting.add(link.tile_id)
    return replace(found, seconds=seconds)


def _too_dear(found: Sequence[Disagreement], seconds: NDArray[np.float64], budget: float) -> NothingToDo:
    rows = sorted({each.tile for each in found})
    cheapest = float(seconds[rows].min())
    return NothingToDo(
        f"{len(rows)} tiles with labels to doubt, the cheapest of which takes {cheapest:.1f} seconds, and {budget:.1f} seconds for audits",
        expected="seconds for one tile at least",
        remedy=f"Give more: tilehawk audit --budget-seconds {int(np.ceil(cheapest))}; the share grows with what is annotated",
    )


def _disagreements(
    candidates: Candidates, config: AuditConfig, prices: Prices, waiting: set[int]
) -> tuple[list[Disagreement], NDArray[np.float64]]:
    """What the detector disagrees with, and the seconds (N,) that looking at a tile again takes."""
    assert candidates.detections is not None
    asked = candidates.labelled & ~np.isin(candidates.tile_ids, list(waiting))
    known = candidates.labelled_objects
    kept = keep_objects(candidates.detections, config.objects)
    found = disagreements(kept, known, np.flatnonzero(asked), config.disagreement)
    drawn = np.bincount(known.tile_index, minlength=len(candidates)).astype(np.float64)
    doubts = np.bincount([each.tile for each in found], minlength=len(candidates)).astype(np.float64)
    return found, prices.seconds(drawn, doubts, 0.0, 0.0)


def _doubtful(
    candidates: Candidates, labelled: Sequence[TileRecord], row: int, found: Sequence[Disagreement], seconds: float
) -> DoubtfulTile:
    mine = tuple(each for each in found if each.tile == row)
    tile = labelled[row]
    said = "; ".join(dict.fromkeys(_sentence(each, candidates.class_names) for each in mine))
    return DoubtfulTile(tile.id, tile.scene_name, float(seconds), f"The detector disagrees: {said}.", mine)


def _sentence(each: Disagreement, names: Sequence[str]) -> str:
    if each.kind == "missing":
        return f"it sees {names[each.detected or 0]} where nothing is drawn"
    if each.kind == "class":
        return f"it sees {names[each.detected or 0]} where {names[each.label or 0]} is drawn"
    if each.kind == "place":
        return f"it sees {names[each.label or 0]} in another place than drawn"
    return f"it does not see the {names[each.label or 0]} that is drawn"


def _draw(
    workspace: Workspace,
    labelled: Sequence[TileRecord],
    doubtful: Sequence[DoubtfulTile],
    candidates: Candidates,
    limit: int,
    progress: Progress,
) -> str | None:
    """The tiles as a sheet: what is drawn in dashes, what is doubtful in colour; a tile whose pixels cannot be had is left out."""
    row_of = {tile.id: (row, tile) for row, tile in enumerate(labelled)}
    known, pictures = candidates.labelled_objects, []
    with TilePixels(workspace) as pixels:
        shown = doubtful[:limit]
        for tile in track(shown, len(shown), "drawing what is doubtful", progress):
            row, record = row_of[tile.tile_id]
            drawn = known.take(known.tile_index == row)
            doubts = Boxes(
                np.asarray([each.box for each in tile.disagreements], dtype=np.float64),
                np.asarray([each.label if each.detected is None else each.detected for each in tile.disagreements], dtype=np.int64),
            )
            try:
                image = pixels.read(record)
                scale = max(1, SHEET_CELL // max(image.shape[:2]))
                picture = draw_boxes(image, doubts, Boxes(drawn.xyxy, drawn.labels), scale=scale)
            except (UnreadableImage, BadInput):
                continue
            pictures.append((f"{tile.tile_id}: {', '.join(sorted({each.kind for each in tile.disagreements}))}", picture))
    if not pictures:
        return None
    contact_sheet(pictures, workspace.reports / SHEET)
    return str((workspace.reports / SHEET).relative_to(workspace.root))


def _write(session: Session, doubtful: Sequence[DoubtfulTile], budget: float, seen: RankingPredictions) -> int:
    chosen = [
        ChosenTile(
            tile.tile_id,
            sum(each.suspicion for each in tile.disagreements),
            tile.seconds,
            {"why": tile.why, "disagreements": [asdict(each) for each in tile.disagreements]},
        )
        for tile in doubtful
    ]
    row = add_round(session, budget_seconds=budget, strategy=AUDIT, seed=0, chosen=chosen, prediction_set_id=seen.row.id)
    ledger.record(session, "audit", round=row.number, tiles=len(chosen), predictions=seen.row.name)
    return row.number
