"""Token ids without open_clip are those of open_clip, for all texts."""

import string
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import tokenizer as reference
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from retrieval.encoders.exports.tokenizer import CLEANERS, ExportedTokenizer, settings_of

SCRIPTS = (
    "a dog isn't it's WE'LL",
    "Two children -- aren't they? -- 1,234.50€ x2 ²³½",
    "雪の中の犬 雪地里的狗 눈 속의 개",
    "Собака на снегу كلب في الثلج बर्फ में कुत्ता",
    "İstanbul ﬁne naïve café Å Ω ß ẞ",
    "🐕‍🦺 👩‍👩‍👧 <start_of_text> <END_of_text> x<end_of_text>y",
    "fish &amp;amp; chips <b>today</b> “quoted” doesnâ€™t \u200b\u00a0\t\n ___ [SEP] </w>",
)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([w for text in SCRIPTS for w in text.split(" ")])).map(" ".join),
    st.text(alphabet=string.printable, max_size=80),
)


@cache
def pair(clean, folder):
    original = reference.SimpleTokenizer(context_length=16, clean=clean)
    file = folder / f"{clean}.json"
    return original, ExportedTokenizer(file, **settings_of(original, file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizers")


@pytest.mark.slow
@pytest.mark.parametrize("clean", CLEANERS)
@settings(max_examples=100)
@given(text=TEXTS)
def test_clip_tokens_are_those_of_open_clip(clean, folder, text):
    original, exported = pair(clean, folder)
    expected = original([text]).numpy()
    np.testing.assert_array_equal(exported([text]), expected)
    assert exported.count(text) == len(original.encode(text)) + 2
    assert len(exported.spans(text)) == min(16, exported.count(text))


def test_scripts_and_long_texts(folder):
    original, exported = pair("lower", folder)
    texts = [*SCRIPTS, "", " ", "word " * 60, "a" * 300]
    np.testing.assert_array_equal(exported(texts), original(texts).numpy())
    assert exported([]).shape == (0, 16)


def test_spans_are_those_of_the_encoder(folder, tiny_encoder):
    _, exported = pair("lower", folder)
    for text in [*SCRIPTS, "A dog, on  snow", "the İ dog", "a dog’s ball"]:
        assert exported.spans(text) == tiny_encoder.token_spans(text)


def test_words_of_a_clean_text_are_not_cleaned_alone(folder):
    _, exported = pair("lower", folder)
    text = "\xf0\xac\xa2"  # clean as a whole; its last two letters alone look like broken UTF-8
    assert len(exported.spans(text)) == exported.count(text) == 7


def hub_tokenizer(**changed):
    """A tokenizer of the hub as open_clip wraps it, of words, with special tokens at both ends."""
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "snow", "犬", "."]
    inner = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        padding_side=changed.pop("padding_side", "right"),
    )
    made = reference.HFTokenizer.__new__(reference.HFTokenizer)
    vars(made).update(
        tokenizer=fast,
        tokenizer_mode="",
        context_length=7,
        clean_fn=reference.get_clean_fn("whitespace"),
        strip_sep_token=False,
    )
    vars(made).update(changed)
    return made


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"strip_sep_token": True},
        {"clean_fn": reference.get_clean_fn("canonicalize")},
        {"padding_side": "left"},
    ],
)
def test_tokens_of_the_hub_are_those_of_open_clip(changed, tmp_path):
    original = hub_tokenizer(**changed)
    file = tmp_path / "tokenizer.json"
    exported = ExportedTokenizer(file, **settings_of(original, file))
    texts = ["a dog.", "A_dog in [SEP] snow", "", "a dog a dog a dog a dog a dog", "犬 snow"]
    np.testing.assert_array_equal(exported(texts), original(texts).numpy())
    for text in texts:
        clean = original.clean_fn(text)
        spans = original.tokenizer(clean, return_offsets_mapping=True)["offset_mapping"]
        assert exported.count(text) == len(spans)
        assert exported.spans(text) == [tuple(span) for span in spans[:7]]


def test_one_whose_workings_are_not_known_is_none(tmp_path):
    file = tmp_path / "tokenizer.json"
    drawn = reference.SimpleTokenizer(reduction_mask="random")
    assert settings_of(drawn, file) is None
    assert settings_of(hub_tokenizer(tokenizer_mode="clips"), file) is None
    assert settings_of(hub_tokenizer(clean_fn=str.upper), file) is None
    assert not file.exists()
