"""A small mutator of image headers, and the judge of what the reader makes of each file."""

import gzip
import math
import re
import struct
import time
import zlib
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from autoseg.core.errors import DataError
from autoseg.core.images import read_voxels

SHAPE = (3, 4, 5)
LONGEST_S = 10.0
LONGEST_SENTENCE = 700
INTEGERS = (0, 1, -1, 2, 3, 7, 8, 255, 256, 32767, -32768, 2**31 - 1, -(2**31), 2**40)
NUMBERS = (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"), 0.5, 352.5)
WORDS = (
    *(b"nan", b"inf", b"-1", b"0", b"999999999999", b"1e400", b"", b"16", b"(1,2", b"none", b"True", b"\xff\xfe"),
    *(b"/etc/passwd", b"../x", b"LIST", b"%d", b"LOCAL", b"x" * 5000, b"0 " * 3000),
)


def make_seeds(folder):
    """name -> bytes of small honest files of every format that is read."""
    rng = np.random.default_rng(0)
    volume = sitk.GetImageFromArray(rng.integers(0, 9, SHAPE).astype(np.float32))
    volume.SetSpacing((1, 1.5, 2))
    volume.SetDirection((1, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8))
    pages = sitk.GetImageFromArray(rng.integers(0, 9, SHAPE).astype(np.uint16))
    seeds = {}
    for name, image, packed in (
        ("a.nii", volume, False),
        ("a.nii.gz", volume, True),
        ("a.mha", volume, False),
        ("packed.mha", volume, True),
        ("a.mhd", volume, False),
        ("a.nrrd", volume, False),
        ("packed.nrrd", volume, True),
        ("a.tif", pages, False),
        ("packed.tif", pages, True),
    ):
        sitk.WriteImage(image, str(folder / name), useCompression=packed)
        seeds[name] = (folder / name).read_bytes()
    return seeds


def mutate(name, content, rng):
    """A file with one to three faults, most of them in its header."""
    inflated = _inflate(content)
    if inflated is not None and rng.random() < 0.8:
        return gzip.compress(mutate("a.nii", inflated, rng), 1, mtime=0)
    change = _mutate_text if file_ending_of(name) in (".mha", ".mhd", ".nrrd") else _mutate_bytes
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.random()
        if kind < 0.75:
            content = change(content, rng)
        elif kind < 0.85:
            content = content[: int(rng.integers(0, len(content) + 1))]
        elif kind < 0.92:
            content = content + bytes(int(rng.integers(1, 200)))
        else:
            content = _mutate_bytes(content, rng)
    return content


def _inflate(content):
    """The content of a gzip file; None where it is none, or was damaged by an earlier mutation."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return None


def file_ending_of(name):
    return "." + name.rsplit(".", 1)[-1]


def _mutate_bytes(content, rng):
    if len(content) < 16:
        return content
    data = bytearray(content)
    at = int(rng.integers(0, max(1, min(len(data), 420) - 8)))
    kind = rng.integers(0, 4)
    if kind == 0:
        data[at] = int(rng.integers(0, 256))
    elif kind == 1:
        value = INTEGERS[rng.integers(len(INTEGERS))]
        struct.pack_into(
            "<H" if at % 2 else "<h", data, at, value & 0xFFFF if at % 2 else max(-32768, min(32767, value))
        )
    elif kind == 2:
        struct.pack_into("<I", data, at - at % 4, INTEGERS[rng.integers(len(INTEGERS))] & 0xFFFFFFFF)
    else:
        struct.pack_into("<f", data, at - at % 4, NUMBERS[rng.integers(len(NUMBERS))])
    return bytes(data)


def _mutate_text(content, rng):
    end = min(len(content), 600)
    lines = content[:end].split(b"\n")
    row = int(rng.integers(0, len(lines)))
    word = WORDS[rng.integers(len(WORDS))]
    kind = rng.integers(0, 5)
    if kind == 0:
        found = list(re.finditer(rb"[-\d.]+", lines[row]))
        if found:
            chosen = found[rng.integers(len(found))]
            lines[row] = lines[row][: chosen.start()] + word + lines[row][chosen.end() :]
    elif kind == 1:
        sign = b"=" if b"=" in lines[row] else b":"
        lines[row] = lines[row].partition(sign)[0] + sign + b" " + word
    elif kind == 2:
        lines.insert(row, lines[int(rng.integers(0, len(lines)))])
    elif kind == 3:
        del lines[row]
    else:
        data = bytearray(lines[row] or b"x")
        data[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        lines[row] = bytes(data)
    return b"\n".join(lines) + content[end:]


@dataclass(frozen=True)
class Verdict:
    """What the reader made of a file: ``fault`` is what is wrong with that, or empty."""

    sentence: str
    fault: str


def judge(path):
    """Read a file as the program does."""
    started = time.monotonic()
    sentence, fault = "", ""
    try:
        voxels, grid = read_voxels(path)
        numbers = [*grid.spacing, *grid.origin, *np.ravel(grid.direction)]
        axes = np.array(grid.direction)
        is_placed = all(map(math.isfinite, numbers)) and np.abs(axes.T @ axes - np.eye(3)).max() < 0.1
        if voxels.shape != grid.shape or not is_placed or min(grid.spacing) <= 0:
            fault = f"nonsense was accepted: {grid}"
        elif voxels.nbytes > 2**28:
            fault = f"{voxels.nbytes} bytes were allocated"
    except DataError as error:
        sentence = str(error)
        if "\n" in sentence or len(sentence) > LONGEST_SENTENCE:
            fault = "the message is no sentence"
        elif "ended the process" in sentence or "too long to read" in sentence:
            fault = "the gate let a file through that ends the reader"
    except BaseException as error:  # whatever else comes is what is looked for
        if isinstance(error, KeyboardInterrupt):
            raise
        fault = f"{type(error).__name__}: {error}"
    if not fault and time.monotonic() - started > LONGEST_S:
        fault = "it took over 10 s"
    return Verdict(sentence, fault)


def kind_of(sentence):
    """The start of a sentence without names, numbers and what a file holds, to tell new kinds."""
    return re.sub(r"'[^']*'|[-\d.]+|\S*/\S+|[^ -~]+", "#", sentence)[:60]
