"""Run a command and record how long it took and how much memory its process tree held at most.

    python tests/bench/measure.py OUT.json -- COMMAND [ARGUMENT ...]

Resident memory is summed over the command and all its descendants twice a second. The exit code is the command's.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil

from engine.files import write_json

SECONDS_BETWEEN_SAMPLES = 0.5


def resident_bytes(root: psutil.Process) -> int:
    """Resident memory of ``root`` and its descendants; processes that end meanwhile count as nothing."""
    total = 0
    try:
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def main() -> int:
    if "--" not in sys.argv or sys.argv.index("--") != 2:
        print(__doc__, file=sys.stderr)
        return 2
    out, command = Path(sys.argv[1]), sys.argv[3:]
    began, peak = time.monotonic(), 0
    child = subprocess.Popen(command)
    root = psutil.Process(child.pid)
    while True:
        peak = max(peak, resident_bytes(root))
        try:
            code = child.wait(SECONDS_BETWEEN_SAMPLES)
            break
        except subprocess.TimeoutExpired:
            continue
    document = {
        "command": command,
        "exit_code": code,
        "seconds": round(time.monotonic() - began, 1),
        "peak_resident_bytes": peak,
        "load_at_the_end": os.getloadavg(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    write_json(out, document)
    print(document, file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
