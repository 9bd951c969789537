"""Pictures that clients send."""

import base64
import io
import socket
import time

import pytest
from PIL import Image


def ask_with(client, picture: bytes | str):
    if isinstance(picture, bytes):
        picture = base64.b64encode(picture).decode()
    return client.post("/v1/search", json={"image": picture})


def test_decompression_bomb_as_a_query_is_refused_by_its_header(client):
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG", optimize=True)
    assert len(stream.getvalue()) < 60_000
    began = time.perf_counter()
    answer = ask_with(client, stream.getvalue())
    assert answer.status_code == 422
    assert "pixels" in answer.json()["detail"]
    assert time.perf_counter() - began < 5


def test_server_side_request_forgery_finds_nobody_who_asks(client):
    """Neither addresses instead of pictures nor those within a drawing are followed."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.3)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/x.png"
        drawing = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="9" height="9"><image width="9" height="9" href="{url}" xlink:href="{url}"/>'
            "</svg>"
        )
        assert ask_with(client, url).status_code == 422
        assert ask_with(client, drawing.encode()).status_code in {200, 422}
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize("path", ["/etc/passwd", "file:///etc/passwd", "../../etc/passwd"])
def test_files_of_the_service_are_not_read_for_a_query(client, path):
    answer = ask_with(client, path)
    assert answer.status_code == 422
    assert "root:" not in answer.text
    assert "root:" not in ask_with(client, path.encode()).text
