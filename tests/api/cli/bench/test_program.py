"""`mmsearch bench`: that every benchmark can be called."""

import pkgutil

import api.cli.bench
from api.cli.bench.program import bench


def test_every_module_has_its_commands():
    """A benchmark that is written and never registered cannot be called."""
    modules = {module.name for module in pkgutil.iter_modules(api.cli.bench.__path__)}
    registered = {
        command.callback.__module__.rpartition(".")[2] for command in bench.registered_commands
    }
    assert registered == modules - {"options", "program"}


def test_help_says_in_one_sentence_what_each_measures(run):
    listed = run("--help").stdout
    for command in bench.registered_commands:
        summary = command.callback.__doc__.splitlines()[0]
        assert summary.startswith(("Measure ", "Compare ", "Test ", "Load-test "))
        assert command.callback.__name__ in listed
        assert run(command.callback.__name__, "--help").exit_code == 0
