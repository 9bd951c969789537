import subprocess
import sys


def test_schemas_load_no_readers_models_or_indices():
    code = "import sys, api.http.schemas; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "api.http.schemas.search" in loaded
    heavy = ("indexer", "retrieval.media.images", "retrieval.indices", "faiss", "torch")
    assert [name for name in loaded if name.startswith(heavy)] == []
