import json
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.captions.vqa import accuracy, load_questions, normalized
from retrieval.errors import NotFoundError, UsageError


@pytest.mark.parametrize(
    ("said", "right"),
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)],
)
def test_accuracy_by_the_number_of_people_of_ten(said, right):
    """The values of the VQA paper: 1 of 10 people makes 0.3, 3 make 0.9, from 4 on it is right."""
    assert accuracy("yes", ["yes"] * said + ["no"] * (10 - said)) == pytest.approx(right)


def test_accuracy_is_the_mean_over_all_ways_to_leave_one_out():
    people = ["2", "two", "2 dogs", "dogs", "3", "a dog", "many"]
    sets = combinations(people, len(people) - 1)
    shares = [min(sum(normalized(one) == "2" for one in others) / 3, 1) for others in sets]
    assert accuracy("Two.", people) == pytest.approx(sum(shares) / len(shares))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Two dogs.", "2 dogs"),
        ("the  Dog", "dog"),
        ("a", ""),
        ("none", "0"),
        ("eleven", "eleven"),
        ("isnt", "isn't"),
        ("isn't it", "isn't it"),
        ("well", "well"),
        ("yes, it is", "yes it is"),
        ("t-shirt", "t shirt"),
        ("left / right", "left right"),
        ("1,000", "1000"),
        ("3.5 m.", "3.5 m"),
        ("what?!", "what"),
        ("black\nand\twhite", "black and white"),
    ],
)
def test_answers_are_normalised_as_the_official_evaluation_does(answer, expected):
    assert normalized(answer) == expected


@given(st.text(max_size=20))
def test_normalised_answers_agree_with_themselves(answer):
    assert accuracy(answer, [answer] * 4) == 1.0
    assert not set(normalized(answer)) & set(";[]{}")


def test_few_answers_of_people_are_refused():
    with pytest.raises(ValueError, match="3 answers"):
        accuracy("yes", ["yes"] * 3)


def test_questions_of_json_lines(tmp_path):
    file = tmp_path / "questions.jsonl"
    asked = {"image": "dogs.jpg", "question": "how many?", "answers": ["2"] * 10}
    file.write_text(json.dumps(asked) + "\n\n" + json.dumps({**asked, "image": "b.jpg"}) + "\n")
    first, second = load_questions(file)
    assert (first.image, first.text, first.answers) == (
        tmp_path / "dogs.jpg",
        "how many?",
        ("2",) * 10,
    )
    assert second.image == tmp_path / "b.jpg"
    assert load_questions(file, images=tmp_path / "x")[0].image == tmp_path / "x" / "dogs.jpg"


def test_questions_of_vqa(tmp_path):
    questions, annotations = tmp_path / "q.json", tmp_path / "a.json"
    questions.write_text(
        json.dumps(
            {
                "data_subtype": "val2014",
                "questions": [{"image_id": 262148, "question": "Where?", "question_id": 262148000}],
            }
        )
    )
    answers = [{"answer": "down", "answer_id": n} for n in range(1, 11)]
    annotations.write_text(
        json.dumps({"annotations": [{"question_id": 262148000, "answers": answers}]})
    )
    [question] = load_questions(questions, annotations, tmp_path / "val2014")
    assert question.image == tmp_path / "val2014" / "COCO_val2014_000000262148.jpg"
    assert question.answers == ("down",) * 10


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", r"q.jsonl:1: not JSON"),
        ("[]", r"q.jsonl:1: expected an object"),
        ('{"image": "a.jpg"}', r"q.jsonl:1: expected {"),
        ('{"image": "a.jpg", "question": "?", "answers": [1, 2, 3, 4]}', r"q.jsonl:1: expected {"),
        ('{"image": "a.jpg", "question": "?", "answers": ["1"]}', r"1 answers of people"),
    ],
)
def test_a_malformed_file_is_told_with_its_line(tmp_path, line, said):
    file = tmp_path / "q.jsonl"
    file.write_text(line)
    with pytest.raises(UsageError, match=said):
        load_questions(file)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(NotFoundError, match="There is no file"):
        load_questions(tmp_path / "q.jsonl")
