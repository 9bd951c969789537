"""`mmsearch bench`: that every benchmark can be called."""

import pkgutil

import api.cli.bench
from api.cli.bench.program import BENCHMARKS


def test_every_module_has_its_commands():
    """A benchmark that is written and never registered cannot be called."""
    modules = {module.name for module in pkgutil.iter_modules(api.cli.bench.__path__)}
    registered = {
        entry.target.partition(":")[0].rpartition(".")[2] for entry in BENCHMARKS.values()
    }
    assert registered == modules - {"options", "program"}


def test_help_says_in_one_sentence_what_each_measures(run):
    listed = run("--help").stdout
    for name, entry in BENCHMARKS.items():
        assert entry.help.startswith(("Measure ", "Compare ", "Test ", "Load-test "))
        assert name in listed
        assert run(name, "--help").exit_code == 0
