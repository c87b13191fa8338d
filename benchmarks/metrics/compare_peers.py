"""autoseg's metrics against public implementations and against their definitions, on random and adversarial masks.

    python benchmarks/metrics/compare_peers.py --peers .venv-metrics/bin/python

Prints one line per comparison: pairs, how many agree, and the largest difference. Ends with exit code 1 where a pair
disagrees that should not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from masks import MaskPair, make_pairs
from rederived import score_pair
from sklearn.metrics import average_precision_score

from autoseg.metrics import METRICS, compare

TOLERANCE = 1e-5  # peers compute in single precision


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What a peer's number is to be compared with.

    Attributes:
        name: as in peers.py.
        metric: ours.
        other: why it may differ; empty where it must not.
        anisotropic: why it may differ where voxels are no cubes.
    """

    name: str
    metric: str
    other: str = ""
    anisotropic: str = ""


SURFELS = "counts surface elements by area, on voxel corners"
TIES = "gives a voxel between two lesions to any of them"
PEERS = (
    Peer(name="panoptica dice 50", metric="dice"),
    Peer(name="panoptica rq 20", metric="lesion_f1_iou20"),
    Peer(name="panoptica rq 50", metric="recognition_quality"),
    Peer(name="panoptica sq 50", metric="segmentation_quality", other="0 where no lesion is matched"),
    Peer(name="panoptica pq 50", metric="panoptic_quality"),
    *(Peer(name=f"monai {name}", metric=name) for name in ("dice", "iou", "sensitivity", "specificity", "precision")),
    Peer(name="monai accuracy", metric="accuracy"),
    Peer(name="monai hd95", metric="hd95"),
    Peer(name="monai assd", metric="assd"),
    Peer(name="monai nsd 1", metric="nsd_1mm"),
    Peer(name="monai nsd 2", metric="nsd_2mm"),
    Peer(name="surface-distance dice", metric="dice"),
    Peer(name="surface-distance hd95", metric="hd95", other=SURFELS),
    Peer(name="surface-distance assd", metric="assd", other=SURFELS + "; mean of the two directions' means"),
    Peer(name="surface-distance nsd 2", metric="nsd_2mm", other=SURFELS),
    Peer(name="cc-metrics cells first of equals", metric="cc_dice", anisotropic="measures in voxels, not in mm"),
    Peer(name="cc-metrics cells in mm", metric="cc_dice", other=TIES),
    Peer(name="cc-metrics dice", metric="cc_dice", other=TIES, anisotropic="measures in voxels, not in mm"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="a Python that has the peers; left out: only the definitions")
    parser.add_argument("--random", type=int, default=40, metavar="N", help="random pairs (default 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="also show every pair that differs")
    args = parser.parse_args()

    pairs = list(make_pairs(args.random, args.seed))
    ours = {pair.name: _score(pair) for pair in pairs}
    print(f"{len(pairs)} pairs of masks")
    wrong = compare_definitions(pairs, ours, show=args.show)
    wrong += compare_average_precision(args.random, args.seed)
    if args.peers:
        wrong += compare_public(pairs, ours, ask_peers(args.peers, pairs), show=args.show)
    sys.exit(1 if wrong else 0)


def _score(pair: MaskPair) -> dict[str, float | None]:
    comparison = compare(pair.prediction, pair.reference, pair.spacing)
    return {name: METRICS[name](comparison) for name in METRICS}


def compare_definitions(pairs: Sequence[MaskPair], ours: dict[str, dict[str, float | None]], *, show: bool) -> int:
    """Every metric against its definition, where no mask is empty."""
    whole = [pair for pair in pairs if pair.prediction.any() and pair.reference.any()]
    plain = {pair.name: score_pair(pair.prediction, pair.reference, pair.spacing) for pair in whole}
    wrong = 0
    for metric in METRICS:
        if not METRICS[metric].needs_probability:
            found = [(name, ours[name][metric], scores.get(metric)) for name, scores in plain.items()]
            wrong += report("definition", metric, found, show=show)
    return wrong


def compare_average_precision(count: int, seed: int) -> int:
    """Against scikit-learn, on maps with many equal values."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(count):
        positive = generator.random((6, 7, 8)) > generator.uniform(0.5, 0.99)
        positive[0, 0, 0] = True
        probability = (np.clip(generator.normal(0.3 + 0.3 * positive, 0.3), 0, 1)).astype(np.float16)
        comparison = compare(
            probability > 0.5, positive, (1.0, 1.0, 1.0), probability=(probability.ravel(), positive.ravel())
        )
        theirs = float(average_precision_score(positive.ravel(), probability.ravel()))
        found.append((str(number), METRICS["average_precision"](comparison), theirs))
    return report("scikit-learn", "average_precision", found, show=False)


def ask_peers(python: Path, pairs: Sequence[MaskPair]) -> dict[str, dict[str, float | None]]:
    """pair -> peer -> value."""
    with tempfile.TemporaryDirectory() as folder:
        stored, answered = Path(folder, "pairs.npz"), Path(folder, "scores.json")
        arrays = {f"prediction_{number}": pair.prediction for number, pair in enumerate(pairs)}
        arrays |= {f"reference_{number}": pair.reference for number, pair in enumerate(pairs)}
        np.savez_compressed(
            stored, names=[pair.name for pair in pairs], spacings=[pair.spacing for pair in pairs], **arrays
        )
        script = Path(__file__).with_name("peers.py")
        subprocess.run([str(python), "-W", "ignore", str(script), str(stored), str(answered)], check=True)
        answer = json.loads(answered.read_text())
    print(", ".join(f"{name} {version}" for name, version in answer["versions"].items()))
    return answer["scores"]


def compare_public(
    pairs: Sequence[MaskPair],
    ours: dict[str, dict[str, float | None]],
    theirs: dict[str, dict[str, float | None]],
    *,
    show: bool,
) -> int:
    """Every peer; pairs with an empty mask apart, because there conventions differ."""
    empty = {pair.name for pair in pairs if not (pair.prediction.any() and pair.reference.any())}
    wrong = 0
    groups: dict[str, Callable[[str], bool]] = {
        "isotropic": lambda name: name not in empty and name.endswith("isotropic") and "aniso" not in name,
        "anisotropic": lambda name: name not in empty and "aniso" in name,
    }
    for peer in PEERS:
        for group, belongs in groups.items():
            found = [(name, ours[name][peer.metric], theirs[name].get(peer.name)) for name in theirs if belongs(name)]
            other = (group == "anisotropic" and peer.anisotropic) or peer.other
            differing = report(f"{peer.name}, {group}", peer.metric, found, show=show, other=other)
            wrong += 0 if other else differing
    for name in sorted(empty):
        if "aniso" not in name:
            print(f"\n{name}: peer / autoseg")
            for peer in PEERS:
                if peer.name in theirs[name]:
                    print(f"  {peer.name:32} {_show(theirs[name][peer.name]):>12} / {_show(ours[name][peer.metric])}")
    return wrong


def report(
    peer: str,
    metric: str,
    found: Sequence[tuple[str, float | None, float | None]],
    *,
    show: bool,
    other: str = "",
) -> int:
    """One line; gives the number of pairs that differ."""
    differing, largest = [], 0.0
    for name, one, two in found:
        same = one is two if one is None or two is None else abs(one - two) <= TOLERANCE * max(1.0, abs(two))
        if one is not None and two is not None:
            largest = max(largest, abs(one - two))
        if not same:
            differing.append((name, one, two))
    note = f" ({other})" if other and differing else ""
    print(f"{peer:46} {metric:32} {len(found) - len(differing):4} of {len(found):4} agree, at most {largest:.3g}{note}")
    if show:
        for name, one, two in differing:
            print(f"    {name}: autoseg {_show(one)}, peer {_show(two)}")
    return len(differing)


def _show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"


if __name__ == "__main__":
    main()
