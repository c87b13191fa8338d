"""Mutate headers for a while: ``python tests/fuzz/run.py --minutes 60``; faults are kept in ``tests/fuzz/found``."""

import argparse
import hashlib
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
        corpus = list(make_seeds(folder).items())
        kinds, faults, count = set(), 0, 0
        while time.monotonic() < ends:
            name, content = corpus[rng.integers(len(corpus))]
            content = mutate(name, content, rng)
            path = folder / f"mutated_{name}"
            path.write_bytes(content)
            verdict = judge(path)
            count += 1
            if verdict.fault:
                faults += 1
                FOUND.mkdir(exist_ok=True)
                kept = FOUND / f"{hashlib.sha256(content).hexdigest()[:10]}_{name}"
                kept.write_bytes(content)
                sys.stdout.write(f"{kept.name}: {verdict.fault}\n")
            elif kind_of(verdict.sentence) not in kinds:  # a new way through the reader: mutate this one, too
                kinds.add(kind_of(verdict.sentence))
                corpus.append((name, content))
    sys.stdout.write(f"seed {options.seed}: {count} files, {len(kinds)} kinds of answers, {faults} faults\n")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
