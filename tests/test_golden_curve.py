"""What a seed gives stays what it is: the losses of a short training are those that were written down once."""

import json

import pytest
from golden import curve


def test_losses_are_those_written_down():
    """Episodes, weights, dropout, gradients, and Adam before and after a drop of the rate: a change in any shows."""
    written = json.loads(curve.PATH.read_text())
    assert written["command"] == list(curve.COMMAND)
    assert curve.losses() == pytest.approx(written["losses"], abs=1e-4)
