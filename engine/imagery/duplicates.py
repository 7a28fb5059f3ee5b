"""When two pieces of imagery are the same: scenes by the bytes of their files, tiles by their pixels."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["pixel_hash"]


def pixel_hash(image: NDArray[np.uint8]) -> str:
    """Hexadecimal SHA-256 of the shape and the pixels of an image (H, W, 3)."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()
