"""Progress bars."""

from mmsearch.progress import bar, track


def test_values_pass_with_and_without_a_bar(capsys):
    assert list(track([1, 2], "Reading", 2, is_shown=False)) == [1, 2]
    assert capsys.readouterr().out == ""
    assert list(track(iter([1, 2]), "Reading", None)) == [1, 2]
    assert "Reading" in capsys.readouterr().out


def test_a_bar_takes_what_is_done(capsys):
    for is_shown in (False, True):
        with bar("Indexing", is_shown) as show:
            show(1, 2)
    assert capsys.readouterr().out.count("Indexing") >= 1
