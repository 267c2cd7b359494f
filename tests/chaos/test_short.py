"""A short form of ``make chaos``: one fault of a camera, of a broker and of a worker."""

from dataclasses import replace

import pytest

from tests.chaos.fault import Trial
from tests.chaos.table import FAULTS

FEW = ("camera refused", "broker away", "worker killed, Kafka to Kafka")


@pytest.mark.parametrize("name", FEW)
def test_fault_costs_no_more_than_is_accepted(name, tmp_path, not_run):
    fault = next(fault for fault in FAULTS if fault.name == name)
    if (missing := fault.missing()) is not None:
        not_run.add(f"{name}: {missing}")
        pytest.skip(missing)
    outcome = fault.run(Trial(folder=tmp_path, num_kills=1, calm_s=1.0, away_s=2.0))
    # Beside other tests a second says nothing about how quick a worker is.
    limits = replace(fault.limits, recovery_s=4 * fault.limits.recovery_s)
    assert replace(outcome, latencies_ms=None).broken(limits) == ()
