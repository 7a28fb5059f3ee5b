"""Detect the objects of a scene with an exported model."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from engine.config import StageConfig
from engine.deploy.runtime import Device, available_threads, load_detector
from engine.imagery.raster import Raster
from engine.imagery.tiling import windows
from engine.inference.detect import detect_windows
from engine.inference.merge import MergeRules, merge_windows
from engine.progress import Progress, silent
from engine.records import SceneDetections

__all__ = ["DetectConfig", "detect"]

RULES = MergeRules()


class DetectConfig(StageConfig):
    """How a scene is cut into windows, what counts as found, and when two boxes are one object."""

    score_threshold: float = Field(0.3, gt=0, le=1)
    """A detection is kept from this score on."""
    overlap: int = Field(64, ge=0)
    """Pixels that neighbouring windows share, less than the model's tile; best no less than the objects' size."""
    batch_size: int = Field(4, ge=1)
    """Windows that go through the model at once; more take more memory, the result stays the same."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of the model; null: every core that the process may use."""
    device: Device = "auto"
    """Where the model runs: ``auto`` (a GPU where one works), ``cpu``, ``cuda`` or ``tensorrt``."""
    minimum_valid_share: float = Field(0.01, ge=0, le=1)
    """A window is left out where a smaller share of its pixels holds data."""
    iou_threshold: float = Field(RULES.iou_threshold, gt=0, le=1)
    """Two boxes of a class with at least this intersection over union are one object."""
    cover_threshold: float = Field(RULES.cover_threshold, gt=0, le=1)
    """A box cut by its window's edge is dropped where a neighbour's whole box covers this share of it."""
    agreement_threshold: float = Field(RULES.agreement_threshold, gt=0, le=1)
    """Two cut boxes are joined where their IoU on the ground that both windows saw reaches this."""
    edge_margin: float = Field(RULES.edge_margin, gt=0)
    """A box this near to an inner edge of its window, in pixels, counts as cut."""


def detect(model: Path, scene: Path, config: DetectConfig, *, progress: Progress = silent) -> SceneDetections:
    """Run an exported model over the windows of a scene and merge what it finds.

    Memory is bounded by a batch of windows and the boxes found, whatever the scene's size.

    Args:
        model: folder that ``export`` wrote.
        scene: JPEG, PNG or GeoTIFF.
        config: see :class:`DetectConfig`.
        progress: told once with the session's providers, then after each batch, in windows.

    Raises:
        CheckpointRefused: the exported folder is missing or damaged.
        UnreadableImage: the scene is missing, damaged or no image that we read.
        UsageError: the overlap is not below the model's tile, or the device does not work here.
    """
    detector = load_detector(Path(model), threads=config.threads or available_threads(), device=config.device)
    scene = Path(scene)
    with Raster(scene) as raster:
        info = raster.info
        places = windows(info.width, info.height, detector.tile, config.overlap)
        progress(0, len(places), f"detecting {scene.name} on {detector.providers[0]}")
        found = detect_windows(
            detector,
            raster,
            places,
            batch_size=config.batch_size,
            score_threshold=config.score_threshold,
            minimum_valid_share=config.minimum_valid_share,
            progress=progress,
        )
    rules = MergeRules(config.iou_threshold, config.cover_threshold, config.agreement_threshold, config.edge_margin)
    boxes = merge_windows(found, info.width, info.height, rules)
    return SceneDetections(scene.name, info.width, info.height, info.georeference, detector.label_set, boxes)
