"""Independent pieces: in this process, in others, and on the workers of a Dask cluster."""

import os
import pickle
import signal
import threading
import time

import pytest
import torch
from small_study import PROFILE, STRONG, make_data, with_training

from esc_lib.config import variant
from esc_lib.data.clips import open_data, save_data
from esc_lib.machine import pieces
from esc_lib.training import runs


def describe(piece):
    """Return what a piece knows of the process that does it."""
    return piece * piece, os.getpid(), torch.get_num_threads()


@pytest.mark.parametrize(("jobs", "n_threads"), [(1, 1), (2, 1)])
def test_results_come_in_the_order_of_the_pieces(jobs, n_threads):
    found = pieces.carry_out(describe, range(7), "squares", jobs=jobs)
    assert [square for square, _, _ in found] == [0, 1, 4, 9, 16, 25, 36]
    assert {threads for _, _, threads in found} == {n_threads}
    processes = {process for _, process, _ in found}
    assert (processes == {os.getpid()}) == (jobs == 1) and len(processes) <= jobs


@pytest.mark.parametrize(("threads", "jobs", "n", "expected"), [(4, 0, 1, 4), (4, 2, 9, 2)])
def test_pieces_share_out_the_threads(monkeypatch, threads, jobs, n, expected):
    used = []
    monkeypatch.setattr(pieces, "_with_threads", lambda threads, *_: used.append(threads))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(pieces.joblib, "Parallel", lambda *_, **__: _one_by_one)
    pieces.carry_out(describe, range(n), "squares", jobs=jobs)
    assert used == [expected] * n


def _one_by_one(calls):
    return [function(*arguments) for function, arguments, _ in calls]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_piece_that_fails_says_why(jobs):
    with pytest.raises(ZeroDivisionError):
        pieces.carry_out((1).__truediv__, [1, 0], "ratios", jobs=jobs)


@pytest.fixture
def data(tmp_path):
    made = make_data()
    columns = {"fold": made.clips.label + 1, "src_file": range(len(made.clips)), "target": 0}
    clips = made.clips.assign(**columns, take="A", path=made.clips.filename)
    save_data(tmp_path, clips, made.waveforms.numpy(), made.n_valid.numpy())
    return open_data(tmp_path)


def test_clips_on_disk_go_to_another_process_by_name(data):
    sent = pickle.dumps(data)
    assert len(sent) < data.waveforms.nbytes / 10
    again = pickle.loads(sent)
    assert torch.equal(again.waveforms, data.waveforms) and again.clips.equals(data.clips)


def test_without_a_scheduler_at_the_address_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(pieces, "CONNECT_S", 0.2)
    with pytest.raises(ValueError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        pieces.carry_out(describe, [1], "squares", scheduler="tcp://127.0.0.1:9")


def test_a_cluster_that_loses_a_worker_in_mid_run_ends_with_the_same_runs(data, tmp_path):
    distributed = pytest.importorskip("distributed")
    usual = with_training(PROFILE, recipe=STRONG, epochs=15)
    profiles = [variant(usual, test_fold=fold) for fold in (1, 2, 3)]
    killed, done = [], threading.Event()

    def kill_one(cluster, client):
        """Kill a worker that has been at work on a run for a while."""
        while not (busy := [worker for worker, keys in client.processing().items() if keys]):
            assert not done.wait(0.02), "no worker was seen at work"
        time.sleep(0.5)
        process = cluster.workers[names[busy[0]]].pid
        killed.append((process, client.processing()[busy[0]]))
        os.kill(process, signal.SIGKILL)

    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**local) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(__import__, "esc_lib.training.runs")
        names = {worker.worker_address: name for name, worker in cluster.workers.items()}
        thread = threading.Thread(target=kill_one, args=(cluster, client))
        thread.start()
        spread = runs.carry_out(data, profiles, tmp_path / "spread", cluster.scheduler_address)
        done.set()
        thread.join()
    ((process, was_doing),) = killed
    assert was_doing
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    alone = runs.carry_out(data, profiles, tmp_path / "alone", jobs=1)
    for one, other in zip(spread, alone, strict=True):
        assert one.name == other.name
        for table in ("predictions.csv", "model.safetensors"):
            assert (one / table).read_bytes() == (other / table).read_bytes()
