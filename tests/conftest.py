"""What several test files share: one thread, SCAN read once, Ctrl-C, hypothesis without chance or clock."""

import functools
import hashlib
import signal

import pytest
import torch
from hypothesis import settings

import generate_episode
import scan_util

torch.set_num_threads(1)  # small products only lose by sharing
settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.load_profile("suite")

# A suite that runs in the background was told to ignore Ctrl-C, and so would be the processes that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder that fills up with SCAN files as tests ask for them."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session", autouse=True)
def scan_is_made_once():
    """What is always the same is computed once: SCAN's splits, the items of a file's contents, a pool's numbers."""
    read, number, known_items, known_pairs = scan_util.read_items, generate_episode.number_pool, {}, {}

    def read_items(path, *known, **named):
        key = hashlib.sha256(path.read_bytes()).digest(), known, *named.values()
        if key not in known_items:
            known_items[key] = tuple(read(path, *known, **named))
        return list(known_items[key])

    def number_pool(items, experiment, *further):
        if len(items) < 1000:
            return number(items, experiment, *further)
        key = tuple(items), experiment.input_words, experiment.output_words, experiment.language, further
        if key not in known_pairs:
            known_pairs[key] = number(items, experiment, *further)
        return known_pairs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_util, "split_items", functools.cache(scan_util.split_items))
        patch.setattr(scan_util, "read_items", read_items)
        patch.setattr(generate_episode, "number_pool", number_pool)
        yield
