"""Named architectures."""

from __future__ import annotations

from typing import Any

from engine.models.detector import DetectorConfig

__all__ = ["DEFORMABLE_DETR", "DETR", "PRESETS"]

PRESETS: dict[str, DetectorConfig] = {
    "nano": DetectorConfig(),
    "small": DetectorConfig(
        backbone="resnet18",
        backbone_weights="none",
        frozen_stages=0,
        encoder_layers=2,
        decoder_layers=3,
    ),
    "base": DetectorConfig(
        backbone="resnet50",
        backbone_weights="none",
        frozen_stages=0,
        dimension=256,
        feedforward=1024,
        encoder_layers=6,
        decoder_layers=6,
        num_queries=300,
        proposal_candidates=900,
        patch_slots=300,
        image_size=512,
    ),
}
"""The sizes of the detector.

- ``nano``: EfficientNet-Lite0 from stride 8 on, 128 channels, a pyramid and one decoder layer: trains on two CPU cores.
- ``small``: ResNet-18, 128 channels, 2 encoder and 3 decoder layers.
- ``base``: ResNet-50, 256 channels, 6 and 6 layers, 512 px, 300 queries (Deformable DETR, section 5; UP-DETR, section 4.1): for a GPU.

No weights of ResNets are packaged: bring them in (``tilehawk models import resnet50.a1_in1k``), name the file in ``backbone_weights``, and
set ``frozen_stages`` to 2 (stem and first stage, as DETR does); until then they start from random weights and nothing is frozen.
"""

DEFORMABLE_DETR: dict[str, Any] = {
    "encoder_norm": "post",
    "decoder_norm": "post",
    "position": "paper",
    "queries": "learned",
    "box_moves": "logit",
    "residual_classes": False,
    "class_loss": "focal",
    "proposal_head": "linear",
    "proposal_loss": "matched",
    "proposal_iou": 1.0,
    "pyramid": False,
    "region_features": 0,
    "region_stage": 0,
    "supervision": "one-to-one",
}
"""Settings, widths and layers apart, under which the detector computes what Deformable DETR with refinement does: one stage; two with
``queries`` = "coordinates"; without refinement with ``refinement`` = False; its fourth level with ``extra_level``."""

DETR: dict[str, Any] = {"architecture": "detr", "feature_levels": (4,), "encoder_norm": "post", "decoder_norm": "post"}
"""The same of DETR on C5, and of UP-DETR; C4 with ``feature_levels`` = (3,)."""
