"""Half precision where it is heavy, full precision where coordinates are computed."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.deploy.half import halve

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture
def graph(tmp_path):
    """Two matrix products in a row, then a shift by a number that float16 cannot tell from its neighbour."""
    weights = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)
    constants = [numpy_helper.from_array(weights[0], "a"), numpy_helper.from_array(weights[1], "b")]
    constants.append(numpy_helper.from_array(np.array([4097.0], dtype=np.float32), "shift"))
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["first"], "first"),
        helper.make_node("MatMul", ["first", "b"], ["second"], "second"),
        helper.make_node("Add", ["second", "shift"], ["y"], "shift"),
    ]
    ends = [[helper.make_tensor_value_info(name, FLOAT, [3, 4])] for name in ("x", "y")]
    path = tmp_path / "graph.onnx"
    model = helper.make_model(
        helper.make_graph(nodes, "graph", *ends, constants), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.save(model, path)
    return path


def answer(path):
    x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0]


def test_the_answer_stays_near_and_is_not_the_same(graph):
    before = answer(graph)
    halve(graph)
    after = answer(graph)
    assert after.dtype == np.float32
    assert 0 < np.abs(after - before).max() < 0.05


def test_neighbours_stay_in_float16_and_all_else_in_float32(graph):
    halve(graph)
    model = onnx.load(graph)
    assert [node.op_type for node in model.graph.node] == ["Cast", "MatMul", "MatMul", "Cast", "Add"]
    kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
    assert kinds == {"a_float16": HALF, "b_float16": HALF, "shift": FLOAT}
    assert {end.type.tensor_type.elem_type for end in (*model.graph.input, *model.graph.output)} == {FLOAT}


def test_other_operators_are_halved_in_the_backbone_alone(graph):
    model = onnx.load(graph)
    entry = onnx.StringStringEntryProto(key="pkg.torch.onnx.name_scopes", value="['', 'detector.backbone']")
    model.graph.node[2].metadata_props.append(entry)
    onnx.save(model, graph)
    halve(graph)
    assert {weight.data_type for weight in onnx.load(graph).graph.initializer} == {HALF}
