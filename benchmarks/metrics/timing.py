"""How long a whole case takes: 240 x 240 x 155 voxels with 50 lesions, every metric of two masks, one core.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/metrics/timing.py --repeats 5

Prints the median seconds of all metrics together (the comparison is made anew each time), then of each metric asked
alone.
"""

from __future__ import annotations

import argparse
import platform
import time
from statistics import median

import numpy as np
from scipy import ndimage

from autoseg.core.records import Dataset
from autoseg.evaluation import DEFAULT_METRICS, PRESETS, Convention, score_case
from autoseg.metrics import METRICS, compare

SHAPE = (155, 240, 240)
SPACING = (1.0, 1.0, 1.0)
LESIONS = 50
DATASET = Dataset(name="Timing", kind="nnunet", channels=("T1",), labels={"background": 0, "lesion": 1})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    prediction, reference = make_case(args.seed)
    lesions = compare(prediction, reference, SPACING).lesions(26)
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}; "
        f"{lesions.n_reference} reference lesions ({reference.sum() / 1000:.1f} ml), {lesions.n_predicted} predicted "
        f"({prediction.sum() / 1000:.1f} ml), {int(lesions.detected.sum())} found"
    )
    names = tuple(name for name in METRICS if not METRICS[name].needs_probability)
    sets = {"all metrics": names, "default metrics": DEFAULT_METRICS}
    sets |= {f"preset {name}": preset.convention.metrics for name, preset in PRESETS.items()}
    for title, chosen in sets.items():
        print(f"{title:42} {time_set(prediction, reference, chosen, args.repeats):7.3f} s")
    for name in names:
        print(f"  {name:40} {time_set(prediction, reference, (name,), args.repeats):7.3f} s")


def make_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """50 lesions in an ellipsoid of a head's size, of 0.01 to 60 ml; some missed, the others moved, some invented."""
    generator = np.random.default_rng(seed)
    grid = np.indices(SHAPE, dtype=np.float32)
    centre = np.array(SHAPE)[:, None, None, None] / 2
    head = (((grid - centre) / (np.array(SHAPE)[:, None, None, None] * 0.42)) ** 2).sum(axis=0) < 1
    inside = np.argwhere(head)
    reference, prediction = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    occupied = np.zeros(SHAPE, bool)
    count = 0
    while count < LESIONS:
        place, radius = inside[generator.integers(len(inside))], 24.0 if count == 0 else generator.uniform(1.3, 6.0)
        blob = _blob(place, radius)
        if (ndimage.binary_dilation(blob) & (occupied | ~head)).any():
            continue
        occupied |= blob
        reference |= blob
        if count == 0 or generator.random() < 0.8:
            moved = place + generator.integers(-1, 2, 3)
            prediction |= _blob(moved, radius * generator.uniform(0.8, 1.15)) & head
        count += 1
    for _ in range(15):
        prediction |= _blob(inside[generator.integers(len(inside))], generator.uniform(1.0, 3.0)) & head
    rough = generator.random(SHAPE) < 0.2
    edge = ndimage.binary_dilation(prediction) & ~ndimage.binary_erosion(prediction)
    return prediction ^ (edge & rough), reference


def _blob(place: np.ndarray, radius: float) -> np.ndarray:
    axes = [np.arange(size, dtype=np.float32) - middle for size, middle in zip(SHAPE, place, strict=True)]
    squares = axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2
    return squares <= radius**2


def time_set(prediction: np.ndarray, reference: np.ndarray, metrics: tuple[str, ...], repeats: int) -> float:
    """Median seconds to score the case, as autoseg_evaluate does once the files are read."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        score_case(
            "case",
            prediction.view(np.uint8),
            reference.view(np.uint8),
            spacing=SPACING,
            dataset=DATASET,
            convention=Convention(metrics=metrics),
        )
        seconds.append(time.perf_counter() - started)
    return median(seconds)


if __name__ == "__main__":
    main()
