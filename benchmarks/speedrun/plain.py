"""The plain loop that a person writes in an hour: a small U-Net, AdamW, flips; on the arrays that autoseg prepared.

Called by ``run.py`` with root, dataset, fold, seed and seconds. Dice is taken on the prepared grid.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoseg.core.arrays import read_prepared
from autoseg.core.records import PreparedCase
from autoseg.core.store import Store
from autoseg.preparation import arrays_folder, read_folds, read_plan

FEATURES = (16, 32, 64, 128)


class PlainUNet(nn.Module):
    """Two convolutions a stage down, one up; batch norm in 2D, instance norm in 3D."""

    def __init__(self, dimensions: int, inputs: int, outputs: int) -> None:
        super().__init__()
        conv, up = (nn.Conv2d, nn.ConvTranspose2d) if dimensions == 2 else (nn.Conv3d, nn.ConvTranspose3d)
        norm = nn.BatchNorm2d if dimensions == 2 else nn.InstanceNorm3d
        self.pool = nn.MaxPool2d(2) if dimensions == 2 else nn.MaxPool3d(2)

        def block(before: int, after: int) -> list[nn.Module]:
            return [conv(before, after, 3, padding=1), norm(after, affine=True), nn.LeakyReLU(0.01, inplace=True)]

        pairs = list(zip((inputs, *FEATURES), FEATURES, strict=False))
        self.down = nn.ModuleList(nn.Sequential(*block(a, b), *block(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(up(b, a, 2, 2) for a, b in pairs[1:])
        self.join = nn.ModuleList(nn.Sequential(*block(2 * a, a)) for a, _ in pairs[1:])
        self.head = conv(FEATURES[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,*spatial) -> (B,K,*spatial)."""
        skips = []
        for number, stage in enumerate(self.down):
            x = stage(x if number == 0 else self.pool(x))
            skips.append(x)
        for up, join, skip in zip(reversed(self.up), reversed(self.join), reversed(skips[:-1]), strict=True):
            x = join(torch.cat((up(x), skip), 1))
        return self.head(x)


def main(root: Path, name: str, fold: str, seed: int, seconds: float) -> None:
    """Train for some seconds, and write the scores of the held-out cases."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    plan, split = read_plan(Store(root), name), read_folds(Store(root), name).folds[int(fold)]
    configuration = plan.configurations[plan.recommended]
    folder = arrays_folder(Store(root).preprocessed(name), configuration.preprocessing)
    cases, held_out = (list(read_prepared(folder, ids, advice="")) for ids in (split.train, split.validation))
    axes, classes = configuration.dimensions, len(plan.outputs.values)
    patch = tuple(-(-n // 8) * 8 for n in configuration.patch_size)
    network = PlainUNet(axes, len(plan.channels), classes)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    began = time.monotonic()
    while (progress := (time.monotonic() - began) / seconds) < 1:
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - progress) ** 0.9
        samples = [cut(cases[random.integers(len(cases))], patch, random) for _ in range(configuration.batch_size)]
        image, label = (torch.stack(part) for part in zip(*samples, strict=True))
        logits = network(image)
        share = logits.softmax(1)[:, 1:]
        truth = torch.stack([label == value for value in range(1, classes)], 1).float()
        spatial = (0, *range(2, share.ndim))
        dice = (2 * (share * truth).sum(spatial) + 1) / (share.sum(spatial) + truth.sum(spatial) + 1)
        loss = functional.cross_entropy(logits, label) + 1 - dice.mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()
    network.eval()
    rows = [{"case": case.id, "scores": score(network, case, axes, classes)} for case in held_out]
    target = root / "autoseg_results" / name / "plain" / f"fold_{fold}"
    target.mkdir(parents=True, exist_ok=True)
    (target / "scores.json").write_text(json.dumps({"cases": rows}))


def cut(case: PreparedCase, patch: tuple[int, ...], random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A random patch, flipped at random along its last axis; a third of them around a lesion."""
    size = (1, *patch) if len(patch) == 2 else patch
    assert case.label is not None and case.lesions is not None
    points = case.lesions.points
    centre = points[random.integers(len(points))] if len(points) and random.random() < 0.33 else None
    image, label = np.zeros((len(case.image), *size), np.float32), np.zeros(size, np.int64)
    low = []
    for axis, (n, p) in enumerate(zip(case.label.shape, size, strict=True)):
        first = random.integers(max(1, n - p + 1)) if centre is None else centre[axis] - p // 2
        low.append(int(min(max(first, 0), max(0, n - p))))
    box = tuple(slice(first, first + p) for first, p in zip(low, size, strict=True))
    inside = tuple(slice(0, n) for n in case.label[box].shape)
    image[(slice(None), *inside)], label[inside] = case.image[(slice(None), *box)], case.label[box]
    if random.random() < 0.5:
        image, label = image[..., ::-1].copy(), label[..., ::-1].copy()
    if len(patch) == 2:
        image, label = image[:, 0], label[0]
    return torch.from_numpy(image), torch.from_numpy(label)


@torch.inference_mode()
def score(network: nn.Module, case: PreparedCase, axes: int, classes: int) -> dict[str, dict[str, float | None]]:
    """Dice of every class of one whole case."""
    image = torch.from_numpy(np.asarray(case.image, np.float32))
    image = image.transpose(0, 1) if axes == 2 else image[None]
    pad = [(0, -n % 8) for n in reversed(image.shape[2:])]
    padded = functional.pad(image, [n for pair in pad for n in pair])
    found = torch.cat([network(part) for part in padded.split(8)]).argmax(1)
    found = found if axes == 2 else found[0]
    mask = found[tuple(slice(0, n) for n in np.shape(case.label))].numpy()
    scores = {}
    for value in range(1, classes):
        truth, mine = np.asarray(case.label) == value, mask == value
        total = int(truth.sum() + mine.sum())
        scores[str(value)] = {"dice": 2 * int((truth & mine).sum()) / total if total else None, "lesion_f1": None}
    return scores


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
