"""Index pages: links directly below the folder are its names, everything else is not."""

from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from retrieval.objects.web import links_of

ADDRESS = "https://example.org/photos/"


def page(*links):
    return "<html><body>" + "".join(f'<a href="{link}">x</a>' for link in links) + "</body>"


def test_names_of_files_and_folders_are_found():
    found = links_of(
        page("a.jpg", "./b.jpg", "/photos/c%20d.jpg", "sub/", f"{ADDRESS}e.jpg", "a.jpg"), ADDRESS
    )
    assert found == ["a.jpg", "b.jpg", "c%20d.jpg", "e.jpg", "sub/"]


def test_links_elsewhere_are_left_out():
    elsewhere = [
        *("../", "..", "/", "/other/a.jpg", "https://evil.example/photos/a.jpg", "sub/deep.jpg"),
        *("?C=N;O=D", "a.jpg?x=1", "#top", "mailto:a@b", "javascript:x", "", "."),
        *("http://example.org/photos/a.jpg", "%2e%2e/x", "a%2fb.jpg", "%00.jpg", "http://[bad/x"),
    ]
    assert links_of(page(*elsewhere), ADDRESS) == []


def test_a_page_is_of_its_folder():
    assert links_of(page("a.jpg"), "https://example.org/photos/index.html") == ["a.jpg"]
    assert links_of("not html at all <a href='x.jpg", ADDRESS) == []
    assert links_of("<A HREF=x.jpg>&amp;</A>", ADDRESS) == ["x.jpg"]
    assert links_of(page("a&amp;b.jpg"), ADDRESS) == ["a&b.jpg"]


@given(st.lists(st.text(max_size=30)), st.text(max_size=60))
def test_whatever_a_page_says_no_name_leads_elsewhere(links, rest):
    for name in links_of(page(*links) + rest, ADDRESS):
        plain = unquote(name.removesuffix("/"))
        assert plain not in {"", ".", ".."}
        assert not set(plain) & {"/", "\0", "\n"}
