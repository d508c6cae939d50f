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


def largest_difference_db(reference: np.ndarray, log_mel: np.ndarray) -> float:
    """Return the largest difference in dB over the audible range of all clips."""
    peak = reference.max(axis=(1, 2), keepdims=True)
    return float(np.abs(log_mel - reference)[reference > peak - RANGE_DB].max())


def main() -> None:
    """Run from the command line."""
    options = _timing.parser(__doc__.partition("\n")[0], repeats=7)
    options.add_argument("--clips", type=_timing.positive, default=128, help="of 5 s, per round")
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
    _timing.report(arguments, found, rows)


if __name__ == "__main__":
    main()
