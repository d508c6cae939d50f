"""Independent pieces of work, several at once: on this machine, or on a Dask cluster."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import joblib
import torch
from tqdm import tqdm

from esc_lib.machine.hardware import best_device, torch_threads

CONNECT_S = 10  # waited for a scheduler


def carry_out(
    work: Callable, pieces: Iterable, name: str, scheduler: str = "", jobs: int = 0
) -> list:
    """Return what `work` makes of each piece, in their order.

    Parameters
    ----------
    work : function of a piece that keeps what it finishes on disk and goes on from there: a piece
        whose process dies is done again.
    name : str, of the progress bar.
    scheduler : address of a Dask scheduler, as tcp://host:8786, whose workers see this machine's
        files and do one piece per thread of theirs; empty: processes of this machine.
    jobs : int, pieces at once on this machine; 0: as many as this process has threads, but one
        where an accelerator does the work. They share out the threads.

    Raises
    ------
    ValueError
        If there is no scheduler at the address.

    Notes
    -----
    A piece has as many threads whether others were done before or not: the number of threads
    decides the last digits.
    """
    pieces = list(pieces)
    threads = torch.get_num_threads()
    if os.environ.get("LT_CLI_USED") or (best_device().type != "cpu" and not jobs):
        jobs = 1  # under `fabric run` the devices share each piece
    jobs = max(1, min(jobs or threads, len(pieces)))
    threads = 1 if scheduler else max(1, threads // jobs)
    with _connected(scheduler):
        at_once = -1 if scheduler else jobs  # a cluster knows how many it can do
        results = joblib.Parallel(at_once, batch_size=1, return_as="generator")(
            joblib.delayed(_with_threads)(threads, work, piece) for piece in pieces
        )
        return list(tqdm(results, name, total=len(pieces), leave=False))


def _with_threads(threads: int, work: Callable, piece):
    with torch_threads(threads):
        return work(piece)


@contextmanager
def _connected(scheduler: str) -> Iterator[None]:
    """Have joblib hand its work to the scheduler, if one is given."""
    if not scheduler:
        yield
        return
    try:
        from distributed import Client

        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except ImportError:
        raise ValueError(
            "carry_out: a scheduler needs the package distributed: pip install 'esc-lib[cluster]'."
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"carry_out: no Dask scheduler answers at {scheduler}.") from error
    with client, joblib.parallel_config("dask", client=client):
        yield
