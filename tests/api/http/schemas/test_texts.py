from api.http.schemas.texts import ItemTexts
from retrieval.catalog import Enrichment
from retrieval.recognition.base import Segment, Task

BOX = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.25), (0.0, 0.25))


def test_texts_are_told_with_their_places():
    found = [
        Enrichment(Task.OCR, "k", "m/1", [Segment("Exit", 0.5, BOX), Segment("left")]),
        Enrichment(Task.SPEECH, "k", "m/2", [], "no sound track"),
    ]
    [read, heard] = ItemTexts.of(found).model_dump(mode="json")["texts"]
    assert (read["task"], read["model"], read["text"]) == ("ocr", "m/1", "Exit\nleft")
    assert read["segments"][0] == {
        "text": "Exit",
        "confidence": 0.5,
        "box": [[0, 0], [0.5, 0], [0.5, 0.25], [0, 0.25]],
        "start_s": None,
        "end_s": None,
    }
    assert (heard["text"], heard["segments"], heard["failure"]) == ("", [], "no sound track")
