"""Notebooks in batch: what one depends on, its conversion from py:percent, its execution."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import papermill
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError

KERNEL_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    # idle threads sleep instead of spinning: on a shared machine spinning costs a factor of ten
    "OMP_WAIT_POLICY": "PASSIVE",
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class _OwnInterpreter(AsyncKernelManager):
    """Starts this interpreter, whatever else is called python3 on Jupyter's path."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=make_ipkernel_cmd(), language="python")


def run_notebook(
    notebook: Path, target: Path, parameters: dict, cwd: Path, threads: int = 1
) -> str | None:
    """Execute into `target`; return None, or one sentence about the failure.

    `target` appears only when every cell ran; after a failure the partial notebook is
    ``<name>.failed.ipynb`` beside it. Several may run at once, with equally many `threads`: a
    kernel inherits the environment of this process, which is set here.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.ipynb")
    failed = target.with_suffix(".failed.ipynb")
    os.environ.update(KERNEL_ENVIRONMENT | dict.fromkeys(THREADS, str(threads)))
    os.environ.pop("MPLBACKEND", None)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the sentence below says it
    try:
        papermill.execute_notebook(
            notebook,
            partial,
            parameters,
            kernel_name="python3",  # of which papermill takes the language
            kernel_manager_class=_OwnInterpreter,
            cwd=cwd,
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],  # or a kernel warns of its local port
        )
        partial.replace(target)
        failed.unlink(missing_ok=True)
        return None
    except papermill.PapermillExecutionError as error:
        what = re.sub(r"\x1b\[[0-9;]*m", "", f"{error.ename}: {error.evalue}")
        sentence = f"{target.stem} failed in cell {error.exec_count}: {' '.join(what.split())}"
    except DeadKernelError:
        sentence = f"{target.stem} failed: its kernel died, most often for want of memory."
    except OSError as error:  # as of a full disk, on which the notebook cannot be written either
        sentence = f"{target.stem} failed: {error}"
    finally:
        if partial.exists():
            partial.replace(failed)
    return sentence
