"""The network's training step against the fastest matrix multiplication of the same device.

A step is forward and backward of the full network, in channels_last and the reduced precision
that training uses here (float32 where there is none). Its work is 3 x 2 x multiply-adds: the
backward pass computes two products, for inputs and for weights, where the forward pass has one.
"""

from collections.abc import Callable

import torch
from torch import nn

from benchmarks import _timing
from esc_lib.config import FrontEnd, Network
from esc_lib.efficiency.network_cost import cost
from esc_lib.machine.hardware import autocast, best_device, best_precision, keep_freed_memory
from esc_lib.models.se_cnn import SECNN

N_CLASSES = 50


def multiplication(size: int, dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    """Return the product of two square matrices into a third that is there already."""
    left, right = torch.randn(2, size, size, device=device).to(dtype)
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)


def training_step(model: nn.Module, batch: int, device: torch.device) -> Callable[[], object]:
    """Return forward, loss and backward of one batch of noise."""
    settings = FrontEnd()
    model = model.to(device, memory_format=torch.channels_last).train()
    features = torch.randn(batch, 1, settings.n_mels, settings.n_frames, device=device)
    features = features.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(N_CLASSES, (batch,), device=device)

    def step() -> None:
        with autocast(device):
            logits = model(features)
        model.zero_grad()
        nn.functional.cross_entropy(logits.float(), labels).backward()

    return step


def main() -> None:
    """Run from the command line."""
    device = best_device()
    on_cpu = device.type == "cpu"
    options = _timing.parser(__doc__.partition("\n")[0], repeats=5)
    options.add_argument("--batch", type=_timing.positive, default=16 if on_cpu else 128)
    options.add_argument(
        "--sizes",
        type=_timing.positive,
        nargs="+",
        default=[1024, 2048, 4096] if on_cpu else [4096, 8192, 16384],
        help="rows of the square matrices",
    )
    options.add_argument("--channels", type=_timing.positive, nargs=5, default=Network().channels)
    arguments = options.parse_args()

    keep_freed_memory()
    precision = best_precision()
    reduced = torch.float16 if precision == "16-mixed" else torch.bfloat16
    step_dtype = torch.float32 if precision == "32-true" else reduced
    found = _timing.environment()
    _timing.header(f"Peak of {device.type}, and the network's share of it", found)

    model = SECNN(N_CLASSES, Network(channels=tuple(arguments.channels)))
    settings = FrontEnd()
    multiply_adds = cost(model, settings.n_mels, settings.n_frames).multiply_adds
    runs, flop, dtypes = {}, {}, {}
    for dtype in (reduced, torch.float32):
        for size in arguments.sizes:
            name = f"matrices of {size}, {_name(dtype)}"
            runs[name] = multiplication(size, dtype, device)
            flop[name], dtypes[name] = 2 * size**3, dtype
    network = f"training step of {arguments.batch} clips, {_name(step_dtype)}"
    runs[network] = training_step(model, arguments.batch, device)
    flop[network], dtypes[network] = 3 * 2 * multiply_adds * arguments.batch, step_dtype

    for run in runs.values():  # twice: the first call chooses and compiles kernels
        run()
        run()
    seconds = _timing.interleave(runs, arguments.repeats)
    rows = []
    for name, values in seconds.items():
        times = _timing.spread(values)
        rate = flop[name] / times["seconds"] / 1e9
        rows.append({"contender": name, "dtype": _name(dtypes[name]), "gflop_per_s": rate, **times})
    peaks: dict[str, float] = {}
    for row in rows[:-1]:
        peaks[row["dtype"]] = max(peaks.get(row["dtype"], 0.0), row["gflop_per_s"])
    for row in rows:
        row["share_of_peak"] = row["gflop_per_s"] / peaks[row["dtype"]]

    share = rows[-1]["share_of_peak"]
    _timing.report(arguments, found, rows, peaks_gflop_per_s=peaks, network_share_of_peak=share)
    for dtype, rate in peaks.items():
        print(f"peak in {dtype}: {rate:.4g} GFLOP/s")
    print(f"the training step reaches {share:.1%} of the peak in {rows[-1]['dtype']}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main()
