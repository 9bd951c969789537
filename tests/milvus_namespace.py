"""Run Milvus in a network namespace of its own, reached through one inherited socket.

The server listens on all interfaces on a dozen ports, which cannot be told otherwise: here it has
only its own loopback. A program of its own, run under `unshare -n`:

    python tests/milvus_namespace.py FD DIRECTORY

FD: a listening socket from before the namespace. Each connection to it is one to the server.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress

_PORT = 19530
_SERVER = "import milvus; milvus.main()"


def main() -> None:
    """Start the server in a directory and pass connections on until it ends."""
    listening, directory = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, "--data", directory, "--proxy-port", str(_PORT)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def end(*_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=lambda: (server.wait(), end()), daemon=True).start()
    while True:
        outside, _ = listening.accept()
        try:
            inside = socket.create_connection(("127.0.0.1", _PORT))
        except OSError:  # not up yet
            outside.close()
            continue
        for source, sink in ((outside, inside), (inside, outside)):
            threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            sink.sendall(content)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
