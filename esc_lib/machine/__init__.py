"""Files, devices, processes, provenance: what any program of this kind needs."""

from esc_lib.machine.files import write_atomically
