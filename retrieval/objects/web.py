"""Index pages of web servers: which links lie in the folder that a page is of."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def links_of(page: str, address: str) -> list[str]:
    """List the names that an index page links to and that lie directly in its folder, sorted.

    Names are as the server spells them, with percent signs, a slash at the end of folders. Links
    elsewhere, to the folder above, with queries (which sort the page) and those to names that are
    no place are left out.

    Args:
        page: HTML.
        address: of the page, that of a folder, after redirections.
    """
    parser = _Links()
    parser.feed(page)
    parser.close()
    own = urlsplit(address)
    folder = own.path if own.path.endswith("/") else own.path.rpartition("/")[0] + "/"
    names = set()
    for link in parser.found:
        try:
            there = urlsplit(urljoin(address, link.strip()))
        except ValueError:
            continue
        is_here = (there.scheme, there.netloc) == (own.scheme, own.netloc)
        if not is_here or there.query or not there.path.startswith(folder):
            continue
        name = there.path.removeprefix(folder)
        if _is_name(name.removesuffix("/")):
            names.add(name)
    return sorted(names)


def _is_name(name: str) -> bool:
    meant = unquote(name)
    return (
        bool(name)
        and "/" not in meant
        and meant not in {".", ".."}
        and not _CONTROL.search(meant)
        and not set(name) & set("?#")
    )
