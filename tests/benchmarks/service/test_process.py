"""The service in a process of its own."""

import sys

import pytest

from benchmarks.service.process import ServiceError, ServiceProcess


@pytest.mark.slow
def test_a_service_that_does_not_start_says_why(tmp_path):
    program = [sys.executable, "-c", "from api.cli import main; main()"]
    (tmp_path / "notes.txt").write_text("no library, and no place for one")
    with (
        pytest.raises(ServiceError, match="is not a library"),
        ServiceProcess(program, tmp_path),
    ):
        pass


def test_what_a_process_that_ends_at_once_said_is_told(tmp_path):
    program = [sys.executable, "-S", "-c", "import sys; sys.exit('no ' + ' '.join(sys.argv[1:3]))"]
    with (
        pytest.raises(ServiceError, match=r"The service ended\. no serve --library"),
        ServiceProcess(program, tmp_path),
    ):
        pass
