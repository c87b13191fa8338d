"""One long-lived process per worker that reads with ITK, so that a file that crashes a reader costs one case.

ITK's readers of MetaImage, NRRD and TIFF are C and C++ code that was never tested against hostile files. The process
takes one path at a time and answers with plain numbers and bytes: nothing that it sends can run code here. It has a
memory limit where the system offers one, ends with the process that started it, and is started again after a crash.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np

from autoseg.core.errors import DataError
from autoseg.core.parallel import address_limit_bytes

PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from autoseg.core.images import serve; serve()"
START_S = 120.0  # until its libraries are loaded
LEAST_S, BYTES_PER_S = 10.0, 5e6  # of reading one file
SPARE_BYTES = 2**29  # beside the voxels and their copies
COPIES = 4  # of the voxels, while ITK reads and converts them


class ImageReader:
    """The reading process; used by one thread at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0

    def read(self, path: Path, size: int, *, voxels: bool) -> tuple[dict[str, Any], np.ndarray | None]:
        """Geometry of a file whose header was checked, and its voxels if asked for.

        Args:
            path: of the file.
            size: bytes of its voxels.

        Returns:
            size, spacing, origin, direction and components as ITK states them; and the array in its order.

        Raises:
            DataError: ITK cannot read it, crashes on it, or takes too long.
        """
        with self.lock:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            request = {"path": os.fsdecode(path.absolute()), "voxels": voxels, "size": size}
            timer = threading.Timer(LEAST_S + size / BYTES_PER_S, process.kill)
            timer.start()
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                facts = json.loads(process.stdout.readline() or b"null")
                if facts is None:
                    raise EOFError
                if "error" in facts:
                    cause = facts["error"]
                    raise DataError(f"{path} cannot be read ({cause}); copy it again, or convert it to .nii.gz")
                return facts, self._read_array(process.stdout, facts, size) if voxels else None
            except (OSError, EOFError, ValueError) as error:
                cause = "it is damaged" if address_limit_bytes() is None else "ulimit -v is too low, or it is damaged"
                raise DataError(f"{path} {self._end(timer)}; {cause}: convert or copy it again") from error
            finally:
                timer.cancel()

    def close(self) -> None:
        """End the process."""
        if self.process is not None and self.owner == os.getpid():
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.owner != os.getpid():  # a fork has its parent's, which it must not use
            self.process = None
        if self.process is not None and self.process.poll() is None:
            return self.process
        if self.process is not None:
            self._end()
        folder = str(Path(__file__).parents[2])  # where this process found the package
        self.process, self.owner = (
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ),
            os.getpid(),
        )
        assert self.process.stdout is not None
        timer = threading.Timer(START_S, self.process.kill)
        timer.start()
        ready = self.process.stdout.readline()
        timer.cancel()
        if ready != b"ready\n":
            raise DataError(f"the process that reads images other than NIfTI {self._end()}; convert them to .nii.gz")
        return self.process

    def _read_array(self, stream: IO[bytes], facts: dict[str, Any], size: int) -> np.ndarray:
        shape, dtype = tuple(map(int, facts["shape"])), np.dtype(str(facts["dtype"]))
        if dtype.kind not in "iuf" or math.prod(shape) * dtype.itemsize > 8 * size + 64:
            raise EOFError
        array = np.empty(shape, dtype)
        view = array.reshape(-1).view(np.uint8).data
        while view:
            count = stream.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            view = view[count:]
        return array

    def _end(self, timer: threading.Timer | None = None) -> str:
        """End the process, and return how it ended."""
        process, self.process = self.process, None
        if process is None:
            return "could not be read"
        late = timer is not None and timer.finished.is_set()
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            code = process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        if late:
            return "took too long to read"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
        return f"ended the process that read it ({name})"


def answer(stream: IO[bytes], facts: dict[str, Any], array: np.ndarray | None) -> None:
    """Send an answer: one line of JSON, then the bytes of the voxels."""
    if array is not None:
        array = np.ascontiguousarray(array)
        facts = {**facts, "shape": array.shape, "dtype": array.dtype.str}
    stream.write(json.dumps(facts).encode() + b"\n")
    if array is not None:
        stream.write(array.reshape(-1).view(np.uint8).data)
    stream.flush()


def limit_memory(size: int) -> None:
    """Limit the address space of this process to what a file of that size needs, where the system can."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES + COPIES * size, hard))
    except (ImportError, OSError, ValueError):
        return  # no such limit here


READER = ImageReader()
atexit.register(READER.close)
