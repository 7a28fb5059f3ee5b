"""Named architectures."""

from __future__ import annotations

from engine.models.detector import DetectorConfig

__all__ = ["PRESETS"]

PRESETS: dict[str, DetectorConfig] = {"nano": DetectorConfig()}
"""nano: EfficientNet-Lite0 from stride 8 on, 128 channels, 1 + 3 layers, a tower of two convolutions: trains on two CPU cores."""
