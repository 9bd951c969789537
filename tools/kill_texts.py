"""Kill the search for texts at random instants, and compare what is found in the end.

    python -m tools.kill_texts --pictures 60 --kills 10

draws texts into pictures, indexes them, and kills the process that reads them (SIGKILL) again and
again. Then it lets a last one finish: each picture must have been read, its text found by its words
and as a passage, and the library be whole. Exits with 1 if anything is lost.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from indexer.enrichment.run import enrich
from indexer.pipeline import index_sources
from retrieval.integrity.check import check_library
from retrieval.library import create_library, open_library
from retrieval.media import Modality
from retrieval.recognition.base import Task
from tests.block_codes import BlockEncoder, BlockReader, save

_PROGRAM = """
import sys, time
from indexer.enrichment import run
from retrieval.library import open_library
from retrieval.recognition.base import Task
from tests.block_codes import BlockEncoder, BlockReader

class Slow(BlockReader):
    batch_size = 2
    def recognize(self, images):
        if not self.looked_at:
            print("begins", flush=True)
        time.sleep(0.1)
        return super().recognize(images)

run._COMMITTED = 4
run.enrich(open_library(sys.argv[1]), BlockEncoder(), Task.OCR, Slow)
"""


def main() -> None:
    """Run it, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=60, help="Number of pictures.")
    parser.add_argument("--kills", type=int, default=10, help="Number of kills.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed of the instants.")
    asked = parser.parse_args()
    instants = random.Random(asked.seed)
    encoder = BlockEncoder()
    with tempfile.TemporaryDirectory() as folder:
        photos, where = Path(folder) / "photos", Path(folder) / "library"
        for number in range(asked.pictures):
            save(photos / f"{number}.png", f"text{number} of a picture")
        library = create_library(where, encoder.space)
        index_sources(library, encoder, [photos])
        for kill in range(asked.kills):
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(where)], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(instants.uniform(0.0, 3.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            again = open_library(where)
            with again.catalog.snapshot() as snapshot:
                counts = snapshot.enrichment_counts().get(Task.OCR)
            found = check_library(again).problems
            again.close()
            read = counts.looked_at if counts else 0
            print(f"kill {kill + 1}: {read} read, {len(found)} problems")  # noqa: T201
        enrich(library, encoder, Task.OCR, BlockReader)
        with library.catalog.snapshot() as snapshot:
            passages = snapshot.items(encoder.space.id, modality=Modality.TEXT, limit=100_000)
            lost = [
                number
                for number in range(asked.pictures)
                if len(
                    snapshot.text_matches(
                        encoder.space.id, Modality.IMAGE, f"text{number} ", limit=10
                    )
                )
                != 1
            ]
        problems = check_library(library).problems
    print(f"{len(passages)} passages, {len(lost)} lost, {len(problems)} problems")  # noqa: T201
    sys.exit(len(passages) != asked.pictures or bool(lost) or bool(problems))


if __name__ == "__main__":
    main()
