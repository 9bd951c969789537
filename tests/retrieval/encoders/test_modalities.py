from retrieval.encoders.modalities import kinds_of, modalities_of
from retrieval.media import MediaKind, Modality


def test_encoders_take_what_their_names_say():
    assert modalities_of("starter") == {Modality.IMAGE, Modality.TEXT}
    assert modalities_of("clap:laion/clap-htsat-unfused") == {Modality.AUDIO, Modality.TEXT}
    assert modalities_of("vectors:mine") == set(Modality)


def test_every_kind_has_pieces_of_some_modality():
    assert kinds_of(Modality) == set(MediaKind)
    assert kinds_of([Modality.AUDIO]) == {MediaKind.AUDIO, MediaKind.VIDEO}
    assert MediaKind.AUDIO not in kinds_of(modalities_of("starter"))
    assert MediaKind.IMAGE not in kinds_of(modalities_of("clap:x/y"))
