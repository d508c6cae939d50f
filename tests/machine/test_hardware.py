"""Where to compute, and with what precision."""

import subprocess
import sys

import pytest
import torch

from esc_lib.machine import hardware


@pytest.mark.parametrize(
    ("cuda", "capability", "bf16", "amx", "expected"),
    [
        (True, (9, 0), False, False, "bf16-mixed"),
        (True, (8, 0), False, False, "bf16-mixed"),
        (True, (7, 5), True, True, "16-mixed"),  # a T4 in any machine
        (False, None, True, False, "bf16-mixed"),
        (False, None, False, True, "bf16-mixed"),
        (False, None, False, False, "32-true"),
    ],
)
def test_best_precision(monkeypatch, cuda, capability, bf16, amx, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert hardware.best_precision() == expected


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16), ("32-true", torch.float32)],
)
def test_autocast_follows_the_precision(monkeypatch, precision, dtype):
    monkeypatch.setattr(hardware, "best_precision", lambda: precision)
    with hardware.autocast(torch.device("cpu")):
        result = torch.ones(2, 2) @ torch.ones(2, 2)
    assert result.dtype == dtype


def test_freed_memory_is_kept_in_a_process_of_its_own():
    """What the C library keeps, the next allocation gets without page faults."""
    script = (
        "import resource, torch\n"
        "from esc_lib.machine.hardware import keep_freed_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(5): torch.ones(20_000_000)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "torch.set_num_threads(1)\n"
        "usual = faults()\n"
        "keep_freed_memory()\n"
        "print(usual, min(faults() for _ in range(5)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usual, tuned = map(int, done.stdout.split())
    if sys.platform.startswith("linux") and usual > 1000:
        assert tuned < usual / 10
