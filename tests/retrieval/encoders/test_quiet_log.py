"""What is expected is not told, and nothing else is silenced."""

import logging
import threading

from retrieval.encoders.quiet_log import quiet_log


def test_only_this_thread_and_the_root_logger_are_quiet(caplog):
    def log_elsewhere() -> None:
        logging.error("of another thread")

    with quiet_log(logging.CRITICAL):
        logging.error("expected")
        logging.critical("worse")
        logging.getLogger("mmsearch").warning("of a logger")
        thread = threading.Thread(target=log_elsewhere)
        thread.start()
        thread.join()
    logging.error("later")
    told = [record.message for record in caplog.records]
    assert told == ["worse", "of a logger", "of another thread", "later"]


def test_blocks_that_overlap_leave_nothing_behind():
    before = logging.getLogger().level, list(logging.getLogger().filters)
    first, second = quiet_log(logging.CRITICAL), quiet_log(logging.ERROR)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert (logging.getLogger().level, list(logging.getLogger().filters)) == before
