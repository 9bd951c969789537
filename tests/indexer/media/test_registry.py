import subprocess
import sys

import pytest

from indexer.media.registry import reader_of
from retrieval.media.registry import FORMATS, UNNAMED_IMAGE


@pytest.mark.parametrize("form", [*FORMATS, UNNAMED_IMAGE], ids=lambda form: form.name)
def test_every_format_has_a_reader_of_its_kind(form):
    assert reader_of(form).__module__ == f"indexer.media.{form.kind}"


def test_asking_for_readers_imports_nothing_heavy():
    program = (
        "import sys, indexer.media.registry as readers, retrieval.media.registry as formats\n"
        "[readers.reader_of(form) for form in formats.FORMATS]\n"
        "heavy = {'torch', 'av', 'pypdfium2', 'pyarrow', 'rawpy', 'pillow_heif', 'resvg_py'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "[]\n"
