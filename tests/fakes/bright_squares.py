"""Detectors whose answer can be computed by hand: every bright cell of a picture is an object.

The picture is divided into cells of ``CELL`` × ``CELL`` pixels, one query each. A query's box is its cell, and its scores are the mean of
the cell's red and of its green channel, scaled to [0, 1]: class 0 is "red", class 1 is "green".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.label_set import LabelSet

CELL = 8
NAMES = ("red", "green")
LABEL_SET = LabelSet(NAMES)


def cell_boxes(tile):
    """Boxes (Q, 4) of the cells, row by row."""
    starts = np.arange(0, tile, CELL, dtype=np.float32)
    y, x = (axis.ravel() for axis in np.meshgrid(starts, starts, indexing="ij"))
    return np.stack([x, y, x + CELL, y + CELL], axis=1)


@dataclass(frozen=True)
class BrightSquares:
    """The fake of ``TileDetector``; ``batches`` notes the size of every batch."""

    tile: int
    batches: list[int]
    label_set: LabelSet = LABEL_SET

    def run(self, images):
        batch, cells = len(images), self.tile // CELL
        self.batches.append(batch)
        scores = images[..., :2].astype(np.float32).reshape(batch, cells, CELL, cells, CELL, 2).mean((2, 4)).reshape(batch, -1, 2) / 255
        return np.broadcast_to(cell_boxes(self.tile), (batch, cells * cells, 4)).copy(), scores.astype(np.float32)


def write_export(directory: Path, *, tile: int = 64, described: Mapping[str, object] | None = None) -> Path:
    """The same detector as an exported folder with a graph made by hand; ``described`` changes export.json."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    queries = (tile // CELL) ** 2
    constants = [
        numpy_helper.from_array(cell_boxes(tile)[None], "cells"),
        numpy_helper.from_array(np.array([0, 1], dtype=np.int64), "first_two"),
        numpy_helper.from_array(np.array([0, 2, queries], dtype=np.int64), "flat"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
        numpy_helper.from_array(np.array([queries, 4], dtype=np.int64), "queries_4"),
        numpy_helper.from_array(np.array([0], dtype=np.int64), "zero"),
    ]
    nodes = [
        helper.make_node("AveragePool", ["image"], ["means"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Gather", ["means", "first_two"], ["red_green"], axis=1),
        helper.make_node("Reshape", ["red_green", "flat"], ["by_class"]),
        helper.make_node("Transpose", ["by_class"], ["scores"], perm=[0, 2, 1]),
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["batch"]),
        helper.make_node("Concat", ["batch", "queries_4"], ["wanted"], axis=0),
        helper.make_node("Expand", ["cells", "wanted"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bright_squares",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, tile, tile])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", queries, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", queries, len(NAMES)]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(model, directory / "model.onnx")
    description = {"model": "bright", "tile": tile, "classes": list(NAMES), "fingerprint": LABEL_SET.fingerprint, "parity": {}}
    (directory / "export.json").write_text(json.dumps(description | dict(described or {})))
    return directory
