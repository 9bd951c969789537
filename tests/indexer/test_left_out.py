from indexer.left_out import advice_on_left_out
from retrieval.media import MediaKind, Modality

PICTURES = {Modality.IMAGE, Modality.TEXT}


def test_one_line_says_how_to_get_what_no_encoder_takes():
    [line] = advice_on_left_out({MediaKind.AUDIO: 2}, PICTURES)
    assert line.startswith("2 sound files were left out")
    assert "--encoder clap:NAME_OR_DIR --space new" in line
    [line] = advice_on_left_out({MediaKind.IMAGE: 1}, {Modality.AUDIO, Modality.TEXT})
    assert line.startswith("1 image was left out")


def test_what_another_space_takes_is_not_told():
    assert not advice_on_left_out({MediaKind.AUDIO: 2}, set(Modality))
    assert not advice_on_left_out({}, PICTURES)
