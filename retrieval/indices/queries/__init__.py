"""Texts that people might search for, to tune an index with: most libraries have no others."""

from importlib.resources import files

_FILE = "texts.txt"


def bundled_texts() -> list[str]:
    """Several thousand varied query texts, all different, always in the same random order.

    Single words, keywords, captions and questions; most of them English, a fifth in eleven other
    languages. `composition.py` made them.
    """
    return files(__package__).joinpath(_FILE).read_text(encoding="utf-8").splitlines()
