"""A workspace of which two rounds were chosen, annotated by its withheld labels, and measured: what a budget page shows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.boxes import Boxes
from engine.catalog.annotations import tile_boxes
from engine.catalog.costs import BatchCost, keep_cost
from engine.catalog.learning import annotated_tiles
from engine.catalog.models import add_model
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile
from engine.stages.ingest import IngestConfig, ingest
from engine.stages.labels import LabelConfig, import_labels
from engine.stages.oracle import OracleConfig, consult_oracle

LABELS = LabelSet.of(["car", "<b>ship</b>"])
SIDE, TILE = 256, 32
SECONDS = 30.0
REASONS = {
    "expected_boxes": {"sure": 0.0, "medium": 0.5, "missed": 1.0},
    "classes": {"car": 1.0, "<b>ship</b>": 2.0},
    "seconds": {"p50": 25.0, "p90": 55.0},
}


def fill(workspace: Workspace, folder: Path, write_picture: Callable[..., Path]) -> None:
    """Three scenes of 256 px in tiles of 32, an object of 12 px in every second cell of 32; labels are withheld."""
    names = [f"scene-{number}.png" for number in range(3)]
    for seed, name in enumerate(names):
        write_picture(folder / name, width=SIDE, height=SIDE, seed=seed)
    corners = np.array(
        [(x + 8, y + 8) for y in range(0, SIDE, TILE) for x in range(0, SIDE, TILE) if (x + y) // TILE % 2], dtype=np.float64
    )
    boxes = Boxes(np.hstack([corners, corners + 12]), np.arange(len(corners)) % 2)
    ingest(workspace, folder, IngestConfig(tile=TILE, overlap=0))
    import_labels(workspace, LabelFile(LABELS, tuple(ImageLabels(name, SIDE, SIDE, boxes) for name in names)), LabelConfig(withhold=True))


def choose(workspace: Workspace, count: int) -> None:
    """A round of the first ``count`` tiles that nobody has looked at, every fifth of them drawn at random; 30 s expected for each."""
    with workspace.session() as session:
        train, reviewed = (tiles(session, split="train", reviewed=state) for state in (None, True))
        known = {tile.id for tile in reviewed}
        left = [tile for tile in train if tile.id not in known]
        chosen = [
            ChosenTile(tile.id, 1.0, SECONDS, {"why": f"New ground in scene {tile.scene_id}.", "audit": not place % 5, **REASONS})
            for place, tile in enumerate(sorted(left, key=lambda tile: tile.id % 7)[:count])
        ]
        row = add_round(session, budget_seconds=SECONDS * count, strategy="tilehawk", seed=0, chosen=chosen)
        total = SECONDS * count
        cost = {"seconds_p50": 0.9 * total, "seconds_p90": 1.6 * total, "money_p50": total / 140, "money_p90": total / 80}
        spread = {"tile_spread": 0.5, "round_spread": 0.3}
        keep_cost(row, BatchCost(prices={}, visits=0, factor=1.0, rounds=0, hourly_rate=30.0, currency="€", **cost, **spread))


def annotate(workspace: Workspace, ap50: float) -> None:
    """The newest round, and a model that learned from all that is annotated."""
    consult_oracle(workspace, OracleConfig())
    with workspace.session() as session:
        annotated = annotated_tiles(session)
        ground = tiles(session, split="test")
        true = sum(len(boxes) for boxes in tile_boxes(session, ground, states=("accepted", "withheld")).values())
        learned = {"tiles": len(annotated), "boxes": sum(tile.boxes for tile in annotated)}
        metrics = {"training": learned, "test": {"ap": ap50 / 2, "ap50": ap50, "tiles": len(ground), "boxes": true}}
        name = f"detector-{len(annotated)}"
        add_model(
            session, name=name, stage="finetune", config={}, data_hash="0" * 64, metrics=metrics, label_set_fingerprint=LABELS.fingerprint
        )


def two_rounds(workspace: Workspace, folder: Path, write_picture: Callable[..., Path]) -> None:
    """Two measured rounds and a third that waits for annotators."""
    fill(workspace, folder, write_picture)
    for count, ap50 in ((20, 0.25), (30, 0.4)):
        choose(workspace, count)
        annotate(workspace, ap50)
    choose(workspace, 15)
