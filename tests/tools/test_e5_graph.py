"""The graph that ships is the one that the tool writes."""

from onnx import TensorProto

from tools.e5_graph import FLOAT32, TARGET, graph


def test_the_file_is_what_the_tool_writes():
    assert TARGET.read_bytes() == graph().SerializeToString()


def test_the_graph_holds_no_weights():
    assert {each.data_location for each in graph().graph.initializer} == {TensorProto.EXTERNAL}


def test_what_activations_are_multiplied_in_may_be_chosen():
    levels = {
        attribute.i
        for node in graph(FLOAT32).graph.node
        for attribute in node.attribute
        if attribute.name == "accuracy_level"
    }
    assert levels == {FLOAT32}
