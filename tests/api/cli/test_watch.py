"""`mmsearch watch` as a process of its own: what it prints, and how it ends."""

import json
import signal
import subprocess
import sys
import time

import pytest

from retrieval.library import create_library

DEADLINE_S = 60.0


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_events_are_lines_of_json_until_a_signal_ends_it(
    tmp_path, tiny_encoder, picture_folder, signal_number
):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    told = tmp_path / "told.jsonl"

    def events() -> list[dict]:
        # A line that is being written has no end yet.
        lines = told.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def total(count: str) -> int:
        return sum(event[count] for event in events() if event["event"] == "updated")

    def eventually(is_so) -> None:
        end = time.monotonic() + DEADLINE_S
        while not is_so():
            assert process.poll() is None, "it ended"
            assert time.monotonic() < end, f"it did not come to be: {events()}"
            time.sleep(0.05)

    command = [sys.executable, "-c", "from api.cli import main; main()", "watch"]
    options = [str(picture_folder), "--library", str(library.path), "--json"]
    with (
        told.open("wb") as out,
        subprocess.Popen([*command, *options], stdout=out, stderr=subprocess.PIPE) as process,
    ):
        try:
            eventually(lambda: any(event["event"] == "watching" for event in events()))
            assert total("added") == 6
            old, new = picture_folder / "folder 0" / "picture-0.png", picture_folder / "new.png"
            new.write_bytes(old.read_bytes())
            eventually(lambda: total("added") == 7)
            new.unlink()
            eventually(lambda: total("removed") == 1)
            process.send_signal(signal_number)
            _, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert b"Traceback" not in err
    assert [event["event"] for event in events()] == ["updated", "watching", "updated", "updated"]
    assert events()[1]["sources"] == [str(picture_folder)]
    assert abs(time.time() - events()[-1]["time"]) < DEADLINE_S
