"""All tests: one torch thread, as small tensors gain nothing from more, and runs repeat."""

import gc

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_collection_finish():
    """Keep what was imported out of every later collection of garbage, which it makes slow."""
    gc.collect()
    gc.freeze()
