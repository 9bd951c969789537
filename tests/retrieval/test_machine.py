import os
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from retrieval.machine import keep_numpy_on_one_thread, memory_bytes


def test_memory_is_that_of_a_machine():
    found = memory_bytes()
    assert found is None or found > 2**28


def test_numpy_works_on_one_thread():
    keep_numpy_on_one_thread()
    own = ThreadpoolController().select(prefix="libscipy_openblas")
    assert [library["num_threads"] for library in own.info()] == [1] * len(own)
    assert np.allclose(np.ones((300, 300)) @ np.ones((300, 300)), 300)


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_leave_the_cores_to_others_unless_the_user_says_otherwise(before, after):
    code = "import os, retrieval; print(os.environ['OMP_WAIT_POLICY'])"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if before is not None:
        environment["OMP_WAIT_POLICY"] = before
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == after


def test_threads_of_networks_are_limited_in_a_process():
    code = (
        "from retrieval.machine import limit_threads, threads_of_networks as threads; "
        "before = threads(); limit_threads(3); print(before, threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "3"]
