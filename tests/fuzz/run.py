"""Mutate headers for a while: ``python tests/fuzz/run.py --minutes 60``; faults are kept in ``tests/fuzz/found``."""

import argparse
import hashlib
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from mutations import judge, kind_of, make_seeds, mutate

FOUND = Path(__file__).parent / "found"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    ends = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        seeds = list(make_seeds(folder).items())
        corpus = list(seeds)
        kinds, faults, count, accepted, slowest = set(), 0, 0, 0, 0.0
        memory = peak_memory()
        while time.monotonic() < ends:
            pool = seeds if rng.random() < 0.5 else corpus
            name, content = pool[rng.integers(len(pool))]
            content = mutate(name, content, rng)
            path = folder / f"mutated_{name}"
            path.write_bytes(content)
            started = time.monotonic()
            verdict = judge(path)
            slowest = max(slowest, time.monotonic() - started)
            count += 1
            accepted += not verdict.sentence
            if verdict.fault:
                faults += 1
                FOUND.mkdir(exist_ok=True)
                found = FOUND / f"{hashlib.sha256(content).hexdigest()[:10]}_{name}"
                found.write_bytes(content)
                sys.stdout.write(f"{found.name}: {verdict.fault}: {verdict.sentence}\n")
                sys.stdout.flush()
            elif not verdict.sentence or kind_of(verdict.sentence) not in kinds:
                kinds.add(kind_of(verdict.sentence))  # read, or a new way through the reader: mutate this one, too
                corpus.append((name, content))
    sys.stdout.write(
        f"seed {options.seed}: {count} files, {accepted} read, {len(kinds)} kinds of answers, {faults} faults; slowest "
        f"{slowest:.1f} s, {(peak_memory() - memory) / 2**20:.0f} MB more than at the start\n"
    )
    sys.exit(1 if faults else 0)


def peak_memory():
    """Largest resident memory of this process so far, in bytes; the reading process has a limit of its own."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
