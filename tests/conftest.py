"""What several test files share: one thread, one folder of SCAN files, Ctrl-C, hypothesis without chance or clock."""

import signal

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # small products only lose by sharing
settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.load_profile("suite")

# A suite that runs in the background was told to ignore Ctrl-C, and so would be the processes that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder that fills up with SCAN files as tests ask for them."""
    return tmp_path_factory.mktemp("data")
