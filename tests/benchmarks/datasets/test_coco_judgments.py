"""Files of the published forms, made here: the data itself is not shipped."""

import json

import pytest

from benchmarks.datasets import load_dataset
from benchmarks.metrics import evaluate, judge
from retrieval.errors import NotFoundError, UsageError

PHOTOS = [42, 73, 74]


def photo(number):
    return f"COCO_val2014_{number:012}.jpg"


@pytest.fixture
def karpathy(tmp_path, add_images):
    """Three photos of COCO's test split; captions 420 to 423, 730 and 731, 740 and 741."""
    add_images(*(f"images/{photo(number)}" for number in PHOTOS))
    entries = [
        {
            "filename": photo(number),
            "filepath": "val2014",
            "split": "test",
            "cocoid": number,
            "sentences": [
                {"raw": f"caption {sentence} of {number}", "sentid": 10 * number + sentence}
                for sentence in range(4 if number == 42 else 2)
            ],
        }
        for number in PHOTOS
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": entries}))

    def load(*files, more=""):
        judgments = ",".join(str(file) for file in files)
        return load_dataset(f"karpathy:{tmp_path}?judgments={judgments}{more}")

    return load


@pytest.fixture
def eccv(tmp_path):
    """Both files of ECCV Caption: judged are fewer queries than there are, with more relevant."""
    to_image = tmp_path / "eccv_caption_to_image.json"
    to_image.write_text(json.dumps({"420": [42, 73], "740": [74]}))
    to_caption = tmp_path / "eccv_image_to_caption.json"
    to_caption.write_text(json.dumps({"42": [420, 421, 422, 423, 730]}))
    return to_image, to_caption


SITS = """caption,image,agg_score,sampling_method
COCO_val2014:sentid:420,COCO_val2014_000000000042.jpg,5.0,c2i_original
COCO_val2014:sentid:420,COCO_val2014_000000000073.jpg,3.0,c2i_intrasim
COCO_val2014:sentid:421,COCO_val2014_000000000073.jpg,2.99,c2i_intrasim
COCO_val2014:sentid:730,COCO_val2014_000000000042.jpg,4.2,c2i_intrasim
COCO_val2014:sentid:999,COCO_val2014_000000000042.jpg,4.2,c2i_intrasim
"""
SIS = """image1,image2,agg_score,sampling_method
COCO_val2014_000000000042.jpg,COCO_val2014_000000000073.jpg,2.5,i2i_csim
COCO_val2014_000000000042.jpg,COCO_val2014_000000000074.jpg,2.4,i2i_csim
"""
STS = """caption1,caption2,agg_score,sampling_method
COCO_val2014:sentid:420,COCO_val2014:sentid:730,3.66,c2c_isim
COCO_val2014:sentid:420,COCO_val2014:sentid:740,2.99,c2c_isim
"""


@pytest.fixture
def cxc(tmp_path):
    files = []
    for name, text in (("sits_test", SITS), ("sis_test", SIS), ("sts_test", STS)):
        files.append(tmp_path / f"{name}.csv")
        files[-1].write_text(text)
    return files


def test_eccv_caption_judges_each_direction_by_itself(karpathy, eccv):
    dataset = karpathy(*eccv)
    first, second, third = map(photo, PHOTOS)
    assert dataset.directions == ("t2i", "i2t")
    assert dataset.qrels("t2i") == {
        f"{first}#0": {first: 1, second: 1},
        f"{third}#0": {third: 1},
    }
    assert dataset.qrels("i2t") == {
        first: dict.fromkeys([*(f"{first}#{number}" for number in range(4)), f"{second}#0"], 1)
    }
    assert list(dataset.queries("i2t")) == [first]
    assert len(dataset.items("i2t")) == 8
    assert not dataset.problems


def test_its_metrics_are_those_of_the_paper(karpathy, eccv):
    """By hand: mAP@R is the mean over the first R ranks of the precision at each relevant one."""
    dataset = karpathy(*eccv)
    first, second, third = map(photo, PHOTOS)
    ranked = [f"{first}#1", f"{third}#0", f"{second}#0", f"{third}#1", f"{first}#3", f"{first}#0"]
    run = {first: {text: -float(rank) for rank, text in enumerate(ranked)}}
    figures = evaluate(judge(dataset.qrels("i2t"), run), ["map@r", "r_precision", "hit_recall@1"])
    assert figures == pytest.approx(
        {"map@r": (1 + 2 / 3 + 3 / 5) / 5, "r_precision": 3 / 5, "hit_recall@1": 1}
    )


def test_cxc_judges_pairs_of_each_kind(karpathy, cxc):
    dataset = karpathy(*cxc)
    first, second, _ = map(photo, PHOTOS)
    assert dataset.directions == ("t2i", "i2t", "i2i", "t2t")
    assert dataset.qrels("t2i") == {
        f"{first}#0": {first: 1, second: 1},
        f"{second}#0": {first: 1},
    }
    assert dataset.qrels("i2t") == {
        first: {f"{first}#0": 1, f"{second}#0": 1},
        second: {f"{first}#0": 1},
    }
    assert dataset.qrels("i2i") == {first: {second: 1}, second: {first: 1}}
    assert dataset.qrels("t2t") == {
        f"{first}#0": {f"{second}#0": 1},
        f"{second}#0": {f"{first}#0": 1},
    }
    [problem] = dataset.problems
    assert str(problem) == (
        "sits_test.csv: unknown id: 2 of 8 relevant pairs have an image or caption that is not in "
        "the dataset: left out"
    )


def test_the_threshold_may_be_another(karpathy, cxc):
    first, second, third = map(photo, PHOTOS)
    strict = karpathy(cxc[0], more="&threshold=4.5")
    assert strict.qrels("t2i") == {f"{first}#0": {first: 1}}
    mild = karpathy(cxc[1], more="&threshold=2.4")
    assert mild.qrels("i2i")[first] == {second: 1, third: 1}


def test_files_for_one_direction_are_joined_and_captions_are_counted_first(karpathy, eccv, cxc):
    first, second, third = map(photo, PHOTOS)
    both = karpathy(eccv[0], cxc[0], more="&captions=1")
    assert both.qrels("t2i") == {
        f"{first}#0": {first: 1, second: 1},
        f"{third}#0": {third: 1},
        f"{second}#0": {first: 1},
    }
    assert len(both.texts) == 3
    assert karpathy(eccv[1], more="&captions=1").qrels("i2t") == {
        first: {f"{first}#0": 1, f"{second}#0": 1}
    }
    assert both.fingerprint() != karpathy(eccv[0], more="&captions=1").fingerprint()


def test_cocos_own_captions_have_the_same_numbers(tmp_path, add_images, eccv):
    add_images(*(f"val2014/{photo(number)}" for number in PHOTOS))
    content = {
        "images": [{"id": number, "file_name": photo(number)} for number in PHOTOS],
        "annotations": [
            {"id": 10 * number, "image_id": number, "caption": "a dog"} for number in PHOTOS
        ],
    }
    (tmp_path / "captions_val2014.json").write_text(json.dumps(content))
    dataset = load_dataset(f"coco:{tmp_path}?judgments={eccv[0]}")
    first, second, third = map(photo, PHOTOS)
    assert dataset.qrels("t2i") == {
        f"{first}#420": {first: 1, second: 1},
        f"{third}#740": {third: 1},
    }


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("caption_to_image.json", "[]", "expected a JSON object"),
        ("caption_to_image.json", '{"a": [1]}', "'a': expected a number of COCO's"),
        ("caption_to_image.json", '{"420": 42}', "'420': expected .* a list of such numbers"),
        ("caption_to_image.json", '{"420": [true]}', "list of such numbers"),
        ("caption_to_image.json", '{"1": [42]}', "none of 1 relevant pairs .*split 'test'"),
        ("caption_to_image.json", "{}", "none of 0 relevant pairs"),
        ("pairs.json", "{}", r"pairs\.json is none of"),
        ("sits.csv", "caption,image\na,b\n", "expected the columns caption,image,agg_score or"),
        ("sits.csv", SITS.replace("3.0,", "many,"), r"sits\.csv:3: could not convert"),
        ("sits.csv", SITS.replace("id:420", "id:42x"), "'COCO_val2014:sentid:42x' has no"),
        ("sits.csv", SITS + "a,b\n", r"sits\.csv:7: 2 fields"),
        ("sts.csv", STS.replace("id:730", "id:x"), r"sts\.csv:2: 'COCO_val2014:sentid:x' has no"),
    ],
)
def test_malformed_files_are_refused(karpathy, tmp_path, name, text, reason):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UsageError, match=reason):
        karpathy(file)


def test_a_missing_file_says_where_it_is_had(karpathy, tmp_path):
    with pytest.raises(NotFoundError, match=r"github\.com/naver-ai/eccv-caption"):
        karpathy(tmp_path / "eccv_caption_to_image.json")


@pytest.mark.parametrize(
    ("threshold", "reason"),
    [("3", "only scores have one"), ("high", "expected a number"), ("nan", "expected a number")],
)
def test_a_threshold_is_a_number_for_scores(karpathy, eccv, threshold, reason):
    with pytest.raises(UsageError, match=reason):
        karpathy(eccv[0], more=f"&threshold={threshold}")


def test_a_threshold_needs_judgments(karpathy, tmp_path):
    with pytest.raises(UsageError, match="only scores have one"):
        load_dataset(f"karpathy:{tmp_path}?threshold=3")
