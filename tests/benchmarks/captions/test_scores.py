import math
import shutil

import pytest

from benchmarks.captions.scores import _splitter, require_tokenizer, score_captions, score_people
from retrieval.errors import UsageError

pytest.importorskip("pycocoevalcap", reason="pip install pycocoevalcap")
pytest.importorskip("sacrebleu", reason="pip install sacrebleu")

REFERENCES = {
    "1.jpg": ["A brown dog runs over the snow .", "The dog is running in snow ."],
    "2.jpg": ["Two children play football on grass .", "Kids are playing with a ball ."],
    "3.jpg": ["A man climbs a steep rock wall .", "The climber hangs from a cliff ."],
}
FIRST = {image: texts[0] for image, texts in REFERENCES.items()}


def test_clipped_counts_of_the_paper():
    """The example of Papineni et al. 2002, section 2.1: two of seven words count."""
    references = {"1": ["The cat is on the mat.", "There is a cat on the mat."]}
    scores = score_captions({"1": "the the the the the the the."}, references)
    assert scores["bleu_1"] == pytest.approx(2 / 7, abs=1e-6)
    assert scores["bleu_2"] == pytest.approx(0, abs=1e-6)


def test_short_captions_pay_the_brevity_penalty():
    scores = score_captions({"1": "The cat"}, {"1": ["the cat sat on the mat"]})
    assert scores["bleu_1"] == pytest.approx(math.exp(1 - 6 / 2), abs=1e-6)
    assert scores["bleu_2"] == pytest.approx(math.exp(1 - 6 / 2), abs=1e-6)


def test_cider_by_hand():
    """`a` is in both images and weighs nothing; `dog` and `a dog` weigh log 2; no longer n-grams.

    So one image has the cosine 1 for two of four lengths, times 10, and the other 0.
    """
    references = {"1": ["a dog"], "2": ["a cat"]}
    assert score_captions({"1": "a dog", "2": "a dog"}, references)["cider"] == pytest.approx(2.5)
    assert score_captions({"1": "a dog", "2": "a cat"}, references)["cider"] == pytest.approx(5.0)


def test_a_caption_that_people_wrote_scores_highest():
    alone = {image: texts[:1] for image, texts in REFERENCES.items()}
    scores = score_captions(FIRST, alone)
    assert [scores[f"bleu_{n}"] for n in range(1, 5)] == pytest.approx([1.0] * 4, abs=1e-6)
    assert scores["cider"] == pytest.approx(10.0)
    assert score_captions(FIRST, REFERENCES)["bleu_4"] == pytest.approx(1.0, abs=1e-6)


def test_captions_of_other_images_score_low():
    shifted = dict(zip(FIRST, [*list(FIRST.values())[1:], "A brown dog runs ."], strict=True))
    right, wrong = score_captions(FIRST, REFERENCES), score_captions(shifted, REFERENCES)
    assert all(wrong[name] < right[name] / 2 for name in right)


def test_case_and_punctuation_do_not_count():
    loud = {image: f"{text.rstrip(' .').upper()}!" for image, text in FIRST.items()}
    assert score_captions(loud, REFERENCES) == pytest.approx(score_captions(FIRST, REFERENCES))


def test_people_are_each_scored_by_the_others():
    forth = score_captions(FIRST, {image: texts[1:] for image, texts in REFERENCES.items()})
    back = score_captions(
        {image: texts[1] for image, texts in REFERENCES.items()},
        {image: texts[:1] for image, texts in REFERENCES.items()},
    )
    means = {name: (forth[name] + back[name]) / 2 for name in forth}
    assert score_people(REFERENCES) == pytest.approx(means)
    assert 0 < means["bleu_1"] < 1
    with pytest.raises(UsageError, match="at least two texts"):
        score_people({"1": ["a dog"]})


def test_chinese_is_split_into_characters():
    assert _splitter("zh")(["两只狗，在雪地里。"]) == ["两 只 狗 在 雪 地 里"]


def test_an_empty_caption_is_a_wrong_one():
    scores = score_captions({**FIRST, "1.jpg": ""}, REFERENCES)
    full = score_captions(FIRST, REFERENCES)
    assert scores["cider"] == pytest.approx(full["cider"] * 2 / 3, rel=0.2)
    assert scores["cider"] < full["cider"]
    assert scores["bleu_1"] < full["bleu_1"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="the official tokenizer needs Java")
def test_the_official_tokenizer_makes_the_same_tokens():
    texts = [text for said in REFERENCES.values() for text in said]
    texts += ["A man's dog, isn't it?", "", 'The "red" ball; two-sided: it\'s here...']
    assert _splitter("ptb")(texts)[:6] == _splitter("13a")(texts)[:6]
    assert _splitter("ptb")(["", "a dog"]) == ["", "a dog"]


@pytest.mark.parametrize(
    ("captions", "references"),
    [({}, {}), ({"1": "a"}, {"2": ["a"]}), ({"1": "a"}, {"1": []})],
)
def test_captions_need_references(captions, references):
    with pytest.raises(UsageError, match="at least one reference"):
        score_captions(captions, references)


def test_an_unknown_tokenizer_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="13a, zh, ptb"):
        require_tokenizer("moses")
