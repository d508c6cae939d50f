"""Log-mel spectrograms per second: librosa, torchaudio and ours, with the thesis's settings.

Every contender starts from the same float waveforms in memory and ends with dB in the memory of
its own device; for an accelerator the way there is part of the time. All have to agree with
librosa. librosa computes one clip at a time, as the thesis does, and then as many clips at once
as torch has threads, each in a process of its own.
"""

import sys
from collections.abc import Callable

import joblib
import numpy as np
import torch

from benchmarks import _timing
from esc_lib.config import FrontEnd
from esc_lib.machine.hardware import best_device, keep_freed_memory
from esc_lib.sound.log_mel import POWER_FLOOR, LogMel, librosa_log_mel

RANGE_DB = 60.0  # compared: what lies within this range below a clip's maximum
TOLERANCE_DB = 1e-3  # float32 rounding of a 2048-point transform at the lower end of that range

MATRIX, COPIED = 2048, 2**26  # rows of the matrices, numbers copied, for the processor's limits


def in_batches(
    front_end: Callable[[torch.Tensor], torch.Tensor],
    waveforms: torch.Tensor,
    batch: int,
    device: torch.device,
) -> list[torch.Tensor]:
    """Apply `front_end` to (clips, samples), `batch` clips at a time, on `device`."""
    with torch.no_grad():
        return [front_end(part.to(device)) for part in waveforms.split(batch)]


def torchaudio_front_end(settings: FrontEnd, device: torch.device) -> Callable | None:
    """Return torchaudio's log-mel with librosa's conventions; None where it cannot be imported."""
    try:
        from torchaudio.transforms import AmplitudeToDB, MelSpectrogram
    except (ImportError, OSError) as error:
        print(f"without torchaudio, which cannot be imported here: {error}", file=sys.stderr)
        return None
    mel = MelSpectrogram(
        sample_rate=settings.sr,
        n_fft=settings.n_fft,
        win_length=settings.win_length,
        hop_length=settings.hop_length,
        f_min=settings.f_min_hz,
        f_max=settings.f_max_hz,
        n_mels=settings.n_mels,
        power=2.0,
        center=True,
        pad_mode="constant",
        norm="slaney",
        mel_scale="slaney",
    ).to(device)
    decibel = AmplitudeToDB("power", settings.top_db).to(device)
    decibel.amin = POWER_FLOOR
    # (batch, 1, samples): the floor lies below each clip's maximum, without the 1 the batch's
    return lambda waveforms: decibel(mel(waveforms[:, None]))[:, 0]


def contenders(settings: FrontEnd, waveforms: np.ndarray, batch: int) -> dict[str, Callable]:
    """Return each contender by its name; calling it yields spectrograms, all clips in order."""
    tensor = torch.from_numpy(waveforms)
    devices = dict.fromkeys((torch.device("cpu"), best_device()))
    found = {"librosa, clip by clip": lambda: [librosa_log_mel(settings, w) for w in waveforms]}
    n_processes = torch.get_num_threads()
    if n_processes > 1:
        call = joblib.delayed(librosa_log_mel)
        pool = joblib.Parallel(n_jobs=n_processes)  # loky keeps its processes between rounds
        found[f"librosa, {n_processes} processes"] = lambda: pool(
            call(settings, w) for w in waveforms
        )
    for device in devices:
        candidates = {
            "torchaudio": torchaudio_front_end(settings, device),
            "ours": LogMel(settings).to(device),
        }
        for name, front_end in candidates.items():
            if front_end is not None:
                found[f"{name}, batches of {batch}, {device.type}"] = (
                    lambda front_end=front_end, device=device: in_batches(
                        front_end, tensor, batch, device
                    )
                )
    return found


def limits(settings: FrontEnd, n_samples: int) -> dict[str, float]:
    """Return what no front end on this processor can do without, for a clip of `n_samples`.

    Operations at the rate of its best float32 matrix product, and bytes in and out at the rate of
    a copy: `mflop`, `mb`, and the seconds of each, `seconds_operations` and `seconds_bytes`. A real
    transform of n points is counted as 2.5 n log2(n) operations.
    """
    n, n_bins = settings.n_fft, settings.n_fft // 2 + 1
    n_frames = 1 + n_samples // settings.hop_length
    n_weights = int((LogMel(settings).mel_basis > 0).sum())
    per_frame = n + 2.5 * n * np.log2(n) + 3 * n_bins + 2 * n_weights
    operations, n_bytes = n_frames * per_frame, 4 * (n_samples + n_frames * settings.n_mels)
    left, right = torch.randn(2, MATRIX, MATRIX)
    source = torch.randn(COPIED)
    target = torch.empty_like(source)
    measured = _timing.interleave(
        {"product": lambda: torch.mm(left, right), "copy": lambda: target.copy_(source)}, 7
    )
    product_s, copy_s = (min(seconds) for seconds in measured.values())
    return {
        "mflop": operations / 1e6,
        "mb": n_bytes / 1e6,
        "seconds_operations": operations / (2 * MATRIX**3) * product_s,
        "seconds_bytes": n_bytes / (2 * 4 * COPIED) * copy_s,
    }


def largest_difference_db(reference: np.ndarray, log_mel: np.ndarray) -> float:
    """Return the largest difference in dB over the audible range of all clips."""
    peak = reference.max(axis=(1, 2), keepdims=True)
    return float(np.abs(log_mel - reference)[reference > peak - RANGE_DB].max())


def main() -> None:
    """Run from the command line."""
    options = _timing.parser(__doc__.partition("\n")[0], repeats=7)
    options.add_argument("--clips", type=_timing.positive, default=512, help="of 5 s, per round")
    options.add_argument("--batch", type=_timing.positive, default=16, help="clips per batch")
    options.add_argument(
        "--malloc",
        choices=("tuned", "default"),
        default="tuned",
        help="tuned: with keep_freed_memory, as in our training, for all contenders",
    )
    arguments = options.parse_args()

    if arguments.malloc == "tuned":
        keep_freed_memory()
    settings = FrontEnd()
    found = _timing.environment()
    _timing.header(f"{arguments.clips} clips of 5 s at {settings.sr} Hz to log-mel", found)
    waveforms = _timing.noise_bursts(arguments.clips, settings.sr).astype(np.float32) / 32768
    runs = contenders(settings, waveforms, arguments.batch)

    reference, differences_db = None, {}
    for name, run in runs.items():  # the warm-up too
        log_mel = np.concatenate([torch.as_tensor(part).cpu().numpy() for part in run()])
        log_mel = log_mel.reshape(arguments.clips, settings.n_mels, -1)
        reference = log_mel if reference is None else reference
        differences_db[name] = largest_difference_db(reference, log_mel)
        if not differences_db[name] <= TOLERANCE_DB:
            sys.exit(
                f"front_end: {name} differs from librosa by {differences_db[name]:.2g} dB, "
                f"allowed are {TOLERANCE_DB:.0e} dB; no times, since it computes something else."
            )

    seconds = _timing.interleave(runs, arguments.repeats)
    times = {name: _timing.spread(values) for name, values in seconds.items()}
    one_by_one_s = next(iter(times.values()))["seconds"]
    fastest_s = min(t["seconds"] for name, t in times.items() if name.startswith("librosa"))
    rows = [
        {
            "contender": name,
            "clips_per_s": arguments.clips / values["seconds"],
            "ratio": one_by_one_s / values["seconds"],
            "ratio_to_fastest_librosa": fastest_s / values["seconds"],
            **values,
            "difference_db": differences_db[name],
        }
        for name, values in times.items()
    ]
    limit = limits(settings, waveforms.shape[1])
    least_s = max(limit["seconds_operations"], limit["seconds_bytes"])
    ours_s = next(
        t["seconds"] for name, t in times.items() if name.startswith("ours") and "cpu" in name
    )
    share = arguments.clips * least_s / ours_s
    _timing.report(arguments, found, rows, limits=limit, share_of_limit=share)
    print(
        f"a clip is {limit['mflop']:.1f} million operations and {limit['mb']:.2f} MB: at the best "
        f"rates of this processor {1e6 * limit['seconds_operations']:.0f} and "
        f"{1e6 * limit['seconds_bytes']:.0f} us; ours reaches {share:.0%} of the nearer limit"
    )


if __name__ == "__main__":
    main()
