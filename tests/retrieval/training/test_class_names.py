from retrieval.training.class_names import class_names, class_sentences


def test_class_names_are_in_the_order_of_the_classifier() -> None:
    names = class_names()
    assert len(names) == 1000
    assert names[0][0] == "tench"
    assert names[967][0] == "espresso"
    assert names[285][0] == "Egyptian cat"


def test_the_first_sentence_of_a_class_is_the_plainest() -> None:
    sentences = class_sentences()
    assert [of_class[0] for of_class in sentences[:2]] == [
        "a photo of a tench",
        "a photo of a goldfish",
    ]
