"""The JSON of explanations."""

import json

import numpy as np

from api.http.schemas import ExplanationSchema
from retrieval.rerankers.explanation import Explanation, WordExplanation


def test_numbers_are_written_with_four_digits():
    heat = np.array([[1 / 3, 2 / 3 - 1.23456e-5], [1.23456e-5, 0]], np.float32)
    word = WordExplanation("dog", 2, 5, 0.5, heat)
    schema = ExplanationSchema.of(Explanation("a dog", 1.5, 0.25, (word,), heat, (0, 0, 4, 2.5)))
    body = json.loads(schema.model_dump_json())
    rows = [[0.3333, 0.6667], [1.235e-05, 0.0]]
    assert body == {
        "text": "a dog",
        "match": 1.5,
        "similarity": 0.25,
        "words": [{"word": "dog", "start": 2, "end": 5, "contribution": 0.5, "heat": rows}],
        "heat": rows,
        "view": [0.0, 0.0, 4.0, 2.5],
        "found_text": [],
    }
