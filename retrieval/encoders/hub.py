"""The model hub: whether it can be reached, loading without it, and without its code."""

import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from retrieval.files import has_home

HUB_TIMEOUT_S = 5.0

_settings: dict[tuple[object, str], list[Any]] = {}
"""Constants that are set now: how many blocks want it, and what they were before."""
_settings_lock = threading.Lock()


def can_reach(url: str, timeout_s: float = HUB_TIMEOUT_S) -> bool:
    """Check whether a server answers within a time, name resolution included.

    Any HTTP status counts as an answer. Proxies are taken from the environment.
    """
    import urllib.error
    import urllib.request

    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=timeout_s).close()
        except urllib.error.HTTPError:
            answered.set()
        except (OSError, ValueError):
            finished.set()
        else:
            answered.set()
        finished.set()

    finished = threading.Event()
    # A daemon thread: resolving a name has no time limit and must not keep the process alive.
    threading.Thread(target=ask, daemon=True).start()
    finished.wait(timeout_s)
    return answered.is_set()


def address() -> str:
    """Return the address of the hub: `HF_ENDPOINT`, else its own."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def is_switched_off() -> bool:
    """Return whether `HF_HUB_OFFLINE` is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def hub_is_reachable() -> bool:
    """Check whether the hub (or `HF_ENDPOINT`) answers, unless `HF_HUB_OFFLINE` is set."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and can_reach(constants.ENDPOINT)


def is_cached(repository: str, *filenames: str) -> bool:
    """Check whether all these files of a hub repository are in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return all(
        isinstance(try_to_load_from_cache(repository, filename), str) for filename in filenames
    )


def offline() -> AbstractContextManager[None]:
    """Make the hub's libraries use the local cache only, without asking the network first."""
    from huggingface_hub import constants

    return _setting(constants, "HF_HUB_OFFLINE", True)


def without_remote_code() -> AbstractContextManager[None]:
    """Make `transformers` refuse the code of a checkpoint, not ask whether it may be run."""
    from transformers import dynamic_module_utils

    return _setting(dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 0)


def without_pickle() -> AbstractContextManager[None]:
    """Make `transformers` refuse pickled weights, which an index of safetensors files may name."""
    from transformers import modeling_utils

    name = "check_torch_load_is_safe"
    if not hasattr(modeling_utils, name):  # before 4.52
        return nullcontext()
    return _setting(modeling_utils, name, _refuse_pickle)


def _refuse_pickle() -> None:
    raise ValueError("its list of weights names files that are not in safetensors format")


@contextmanager
def _setting(module: object, name: str, value: object) -> Iterator[None]:
    """Set a constant of a module for as long as the block runs, or another one in any thread."""
    key = module, name
    with _settings_lock:
        if key not in _settings:
            _settings[key] = [0, getattr(module, name)]
        _settings[key][0] += 1
        setattr(module, name, value)
    try:
        yield
    finally:
        with _settings_lock:
            _settings[key][0] -= 1
            if not _settings[key][0]:
                setattr(module, name, _settings.pop(key)[1])


def is_repository_name(name: str) -> bool:
    """Return whether a name can be that of a repository, and is no path."""
    return re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", name, re.ASCII) is not None


def url_is_cached(url: str) -> bool:
    """Check whether open_clip's cache has the file of a checkpoint outside the hub."""
    return has_home() and (Path.home() / ".cache" / "clip" / url.rpartition("/")[2]).is_file()
