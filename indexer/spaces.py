"""Keep several spaces complete: one run of the indexer for each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from indexer.progress import Summary
from retrieval.encoders.base import Encoder
from retrieval.errors import EncoderUnavailableError, SpaceMismatchError, UsageError


@dataclass(frozen=True)
class SpaceRun:
    """What a run did for one space.

    problem: why nothing could be embedded, as its encoder is not here or has changed; None: it
    could.
    """

    encoder: Encoder
    summary: Summary
    problem: str | None = None


def index_spaces(
    encoders: Sequence[Encoder], index: Callable[[Encoder], Summary]
) -> Iterator[SpaceRun]:
    """Bring several spaces up to date, one after the other, and yield what was done for each.

    Ends after a run that was interrupted. A space other than the first whose encoder cannot be
    loaded is left behind, and the others go on.

    Args:
        encoders: those of the spaces; one that is loaded when it is first needed costs nothing
            where a space lacks nothing.
        index: runs the indexer with an encoder.
    """
    for place, encoder in enumerate(encoders):
        try:
            run = SpaceRun(encoder, index(encoder))
        except (EncoderUnavailableError, SpaceMismatchError, UsageError) as error:
            if place == 0:
                raise
            run = SpaceRun(encoder, Summary(), str(error))
        yield run
        if run.summary.interrupted:
            return
