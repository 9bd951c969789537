"""A program of `test_job.py`: runs a job on a cluster and tells of its progress, line by line."""

import json
import sys

from indexer.cluster import job
from indexer.cluster.connection import connected
from indexer.progress import Progress
from retrieval.encoders.registry import load_encoder
from retrieval.lance.table import LanceTable
from tests.ray_cluster import ADDRESS


def _tell(progress: Progress) -> None:
    print(json.dumps([progress.done, progress.read]), flush=True)


def main() -> None:
    """Index a folder into a table, whose location are the arguments; prints the counts last."""
    folder, location = sys.argv[1:]
    job.SECONDS_A_COMMIT = 0.5
    encoder = load_encoder("starter", "cpu")
    table = LanceTable.create(location, encoder.space)
    options = job.JobOptions(batch_size=8, encoders=4, readers=1)  # more than one node has
    with connected(ADDRESS) as resources:
        summary = job.index_on_cluster(
            table, encoder, [folder], resources, options=options, on_progress=_tell
        )
    print(json.dumps(vars(summary)), flush=True)


if __name__ == "__main__":
    main()
