import pytest

from benchmarks.capacity.measurements import bundled_measurements
from benchmarks.capacity.plan import make_plan
from benchmarks.capacity.records import Wanted


@pytest.fixture
def planned():
    """Make a plan from the bundled measurements: of a number of images, and what else is wanted."""
    measured = bundled_measurements()

    def plan(images=10**9, machine=None, prices=None, **wanted):
        return make_plan(Wanted(images, **wanted), measured, machine, prices)

    return plan
