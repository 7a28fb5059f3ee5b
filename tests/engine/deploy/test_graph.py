"""What a target does not compute is refused, wherever in the graph it stands."""

import onnx
import pytest
from onnx import TensorProto, helper

from engine.deploy.graph import operators, require_runs_on
from engine.errors import UsageError


def graph(kind, inputs):
    """One operator."""
    node = helper.make_node(kind, inputs, ["y"])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
    return helper.make_graph([node], kind, given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])


def within(inner):
    """The same in a branch."""
    branches = {"then_branch": inner, "else_branch": inner}
    node = helper.make_node("If", ["condition"], ["y"], **branches)
    condition = helper.make_tensor_value_info("condition", TensorProto.BOOL, [])
    return helper.make_graph([node], "outer", [condition], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])


def written(tmp_path, content):
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(content, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_operators_in_branches_are_seen(tmp_path):
    assert operators(written(tmp_path, within(graph("NonZero", ["x"])))) == {"If", "NonZero"}


@pytest.mark.parametrize("kind", ["GridSample", "NonZero"])
def test_what_tensorrt_computes_wrong_is_refused_for_it_alone(tmp_path, kind):
    path = written(tmp_path, graph(kind, ["x", "grid"] if kind == "GridSample" else ["x"]))
    require_runs_on("onnxruntime", path)
    with pytest.raises(UsageError, match=kind):
        require_runs_on("tensorrt", path)


def test_plain_arithmetic_runs_on_tensorrt(tmp_path):
    require_runs_on("tensorrt", written(tmp_path, graph("Relu", ["x"])))
