"""Made-up datasets, shaped like public ones or like nothing on earth, as rows of spacings and cropped shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autoseg.core.records import CaseFacts, ChannelFacts, Fingerprint, IntensityFacts, LesionFacts
from autoseg.fingerprint import summarize_lesions

KINDS = 12
BRATS = ("T1", "T1c", "T2", "FLAIR")


@dataclass(frozen=True, kw_only=True)
class MadeDataset:
    """What a planner needs to know of a dataset; axes are those of the files.

    Attributes:
        name: for messages.
        rows: number of cases, their cropped shape (voxels) and their spacing (mm), on stored axes.
        share: of each scan that the crop leaves.
        transpose: the stored axis behind each canonical one.
        channels, labels, regions: as in a fingerprint; labels without background.
        ignore: whether one more value is to be ignored.
    """

    name: str
    rows: tuple[tuple[int, tuple[int, int, int], tuple[float, float, float]], ...]
    share: float = 1.0
    transpose: tuple[int, int, int] = (0, 1, 2)
    channels: tuple[str, ...] = ("FLAIR",)
    labels: tuple[str, ...] = ("lesion",)
    regions: tuple[str, ...] = ()
    ignore: bool = False

    @property
    def cases(self) -> list[tuple[tuple[int, int, int], tuple[float, float, float]]]:
        """Cropped shape and spacing of each case."""
        return [(shape, spacing) for count, shape, spacing in self.rows for _ in range(count)]


def make_datasets() -> list[MadeDataset]:
    """Every dataset of the comparison, the same at each call."""
    return [
        _like("brats", (140, 171, 136), cases=48, share=0.4, channels=BRATS, regions=("whole", "core", "enhancing")),
        _like("brats labels", (138, 169, 138), cases=60, share=0.38, channels=BRATS, labels=("ncr", "ed", "et")),
        _like("brats africa", (145, 173, 139), cases=12, share=0.42, channels=BRATS, labels=("ncr", "ed", "et")),
        _like("atlas r2", (151, 184, 143), cases=55, share=0.51, channels=("T1",)),
        _like("atlas whole", (189, 233, 197), cases=30, jitter=0.0, channels=("T1",)),
        _like("isles15 siss", (154, 230, 230), cases=28, jitter=0.03, share=0.5, channels=("DWI", "FLAIR", "T1", "T2")),
        _like("isles15 spes", (78, 96, 79), (2.0, 2.0, 2.0), cases=30, channels=("CBF", "CBV", "DWI", "Tmax", "TTP")),
        _like("isles22", (73, 112, 112), (2.0, 2.0, 2.0), cases=50, wobble=0.2, channels=("DWI", "ADC")),
        _like("isles22 thick", (25, 192, 192), (6.0, 1.2, 1.2), cases=40, wobble=0.3, channels=("DWI", "ADC", "FLAIR")),
        _like("isles24 ct", (60, 180, 150), (3.0, 0.9, 0.9), cases=20, wobble=0.3, channels=("CT", "NoNorm", "ct")),
        _like("wmh", (48, 234, 131), (3.0, 1.0, 1.0), cases=60, wobble=0.1, channels=("FLAIR", "T1")),
        _like("wmh utrecht", (48, 240, 240), (3.0, 0.96, 0.95), cases=20, jitter=0.0, channels=("FLAIR", "T1")),
        _like("lgg", (31, 256, 256), (5.0, 1.0, 1.0), cases=33, jitter=0.3, channels=("pre", "FLAIR", "post")),
        _like("flair 5.5 mm", (24, 256, 256), (5.5, 0.9, 0.9), cases=50, jitter=0.1, wobble=0.05),
        _like("mslesions", (168, 210, 160), (1.0, 0.8, 0.8), cases=15, wobble=0.1, channels=("FLAIR", "T1", "T2")),
        _like("metastases", (155, 200, 165), cases=40, share=0.3, channels=BRATS, labels=("met",), ignore=True),
        _like("hippocampus", (36, 50, 35), cases=80, channels=("MRI",), labels=("front", "back")),
        _like("heart", (115, 320, 232), (1.37, 1.25, 1.25), cases=20, channels=("MRI",)),
        _like("prostate", (20, 320, 319), (3.6, 0.62, 0.61), cases=32, channels=("T2", "ADC"), labels=("pz", "tz")),
        _like("cardiac cine", (9, 250, 230), (10.0, 1.5, 1.5), cases=45, wobble=0.3, labels=("rv", "myo", "lv")),
        _like(
            "ct liver", (432, 512, 512), (1.0, 0.77, 0.77), cases=30, wobble=0.2, channels=("CT",), labels=("a", "b")
        ),
        _like("ct thin", (250, 512, 512), (0.8, 0.8, 0.8), cases=30, jitter=0.0, channels=("CT",)),
        _like("colour", (40, 300, 300), (2.0, 1.0, 1.0), cases=9, channels=("rgb_to_0_1", "RGB", "Rescale_to_0_1")),
        _like("sagittal", (30, 256, 240), (5.0, 0.9, 0.9), cases=20, transpose=(1, 2, 0)),
        _like("sagittal thin", (176, 240, 256), (1.2, 1.0, 1.0), cases=25, transpose=(2, 1, 0)),
        _like("coarse last", (256, 220, 26), (0.9, 0.9, 6.0), cases=25, wobble=0.1),
        _like("coarse middle", (200, 40, 220), (1.0, 4.5, 1.0), cases=16, wobble=0.2, transpose=(2, 0, 1)),
        _like("mixed thickness", (40, 220, 220), (4.0, 0.9, 0.9), cases=21, wobble=0.6),
        _like("thick with thin", (30, 230, 230), (6.0, 1.0, 1.0), cases=20, extra=5, extra_spacing=(0.5, 1.0, 1.0)),
        _like("two thick axes", (60, 70, 250), (3.0, 2.8, 0.7), cases=18),
        _like("just under 2", (80, 160, 160), (1.99, 1.0, 1.0), cases=18),
        _like("just over 3", (50, 170, 170), (3.01, 1.0, 1.0), cases=18),
        _like("huge", (512, 512, 512), (0.3, 0.3, 0.3), cases=5, jitter=0.0),
        _like("huge flat", (64, 1500, 1500), (5.0, 0.2, 0.2), cases=6),
        _like("long", (1200, 160, 160), cases=10),
        _like("post-mortem 0.1 mm", (900, 1100, 800), (0.1, 0.1, 0.1), cases=4),
        _like("7 tesla", (224, 320, 280), (0.7, 0.65, 0.65), cases=12, share=0.6),
        _like("7 tesla half", (320, 384, 320), (0.5, 0.5, 0.5), cases=10, share=0.7),
        _like("medium low", (170, 260, 250), (0.9, 0.7, 0.7), cases=22, wobble=0.1),
        _like("thin slab", (12, 512, 512), (2.0, 0.45, 0.45), cases=20),
        _like("few slices", (6, 320, 320), (8.0, 0.5, 0.5), cases=20),
        _like("many few slices", (8, 640, 640), (4.0, 0.35, 0.35), cases=30),
        _like("two slices", (2, 256, 256), (6.0, 1.0, 1.0), cases=14, jitter=0.0),
        _like("one slice", (1, 256, 240), (5.0, 1.0, 1.0), cases=20, jitter=0.0),
        _like("one slice large", (1, 1024, 900), (1.0, 0.3, 0.3), cases=20, jitter=0.05, channels=("nonorm",)),
        _like("one case", (90, 100, 80), cases=1),
        _like("two cases", (155, 190, 150), cases=2),
        _like("small", (16, 20, 24), cases=12),
        _like("tiny", (5, 6, 7), cases=3),
        _like("needle", (200, 10, 12), cases=10),
        _like("many channels", (100, 120, 100), cases=20, channels=tuple("abcdefghijkl")),
        _like("many labels", (90, 180, 150), (1.5, 1.0, 1.0), cases=9, labels=tuple("abcdefghijklmnopqrstuvwxyz")),
        _like("1000 cases", (150, 180, 145), cases=1000, share=0.45, channels=BRATS),
    ]


def make_random_datasets(count: int, seed: int) -> list[MadeDataset]:
    """Datasets drawn at random: sizes 8 to 700, spacings 0.2 to 8 mm, with and without a coarse axis."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        shape = [int(n) for n in np.exp(generator.uniform(math.log(8), math.log(700), 3))]
        spacing = [round(float(s), 3) for s in np.exp(generator.uniform(math.log(0.2), math.log(2.5), 3))]
        if generator.random() < 0.5:  # half of them with two equal axes, as most scans are
            shape[2], spacing[2] = shape[1], spacing[1]
        if generator.random() < 0.4:
            axis = int(generator.integers(3))
            spacing[axis] = round(spacing[axis] * generator.uniform(2, 6), 3)
        made.append(
            _like(
                f"random {seed}/{number}",
                (shape[0], shape[1], shape[2]),
                (spacing[0], spacing[1], spacing[2]),
                cases=int(generator.integers(1, 40)),
                jitter=float(generator.choice([0.0, 0.05, 0.2])),
                wobble=float(generator.choice([0.0, 0.0, 0.2])),
                labels=tuple("abcdefgh"[: int(generator.integers(1, 8))]),
            )
        )
    return made


def describe_fingerprint(dataset: MadeDataset) -> Fingerprint:
    """The dataset as we would have measured it, on canonical axes."""
    intensities = IntensityFacts(
        count=100,
        mean=40.0,
        std=12.0,
        minimum=0.0,
        maximum=90.0,
        percentile_00_5=5.0,
        median=40.0,
        percentile_99_5=80.0,
    )
    channel = ChannelFacts(foreground=intensities, brain=intensities)
    cases = []
    for number, (shape, spacing) in enumerate(dataset.cases):
        scan = (math.ceil(shape[0] / dataset.share), shape[1], shape[2])
        z, y, x = dataset.transpose
        cases.append(
            CaseFacts(
                case=f"c{number:04}",
                group=None,
                site=None,
                shape=(scan[z], scan[y], scan[x]),
                spacing=(spacing[z], spacing[y], spacing[x]),
                cropped_shape=(shape[z], shape[y], shape[x]),
                transpose=dataset.transpose,
                channels=(channel,) * len(dataset.channels),
                label_voxels=dict.fromkeys(dataset.labels, 10),
                lesions=(LesionFacts(label=dataset.labels[0], volume_ml=1.0, centre=(0.5, 0.5, 0.5)),),
            )
        )
    labels = {name: value for value, name in enumerate(("background", *dataset.labels))}
    return Fingerprint(
        dataset="Made",
        dataset_key="0",
        channels=dataset.channels,
        labels=labels,
        # Each region holds one value of its own and those of all later ones.
        regions={name: tuple(range(value, len(dataset.regions) + 1)) for value, name in enumerate(dataset.regions, 1)},
        ignore_label=len(labels) if dataset.ignore else None,
        lesions=summarize_lesions(cases),
        cases=tuple(cases),
        intensities=dict.fromkeys(dataset.channels, intensities),
    )


def describe_for_nnunet(dataset: MadeDataset) -> dict[str, object]:
    """The same measurements as nnU-Net would have taken them, on stored axes."""
    fingerprint = describe_fingerprint(dataset)
    shares = [math.prod(case.cropped_shape) / math.prod(case.shape) for case in fingerprint.cases]
    labels: dict[str, object] = dict(fingerprint.labels)
    if dataset.regions:
        labels = {"background": 0} | {name: list(values) for name, values in fingerprint.regions.items()}
    if fingerprint.ignore_label is not None:
        labels["ignore"] = fingerprint.ignore_label
    return {
        "spacings": [spacing for _, spacing in dataset.cases],
        "shapes": [shape for shape, _ in dataset.cases],
        "crop_share": float(np.median(shares)),
        "channels": dataset.channels,
        "labels": labels,
    }


def _like(
    name: str,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    cases: int,
    jitter: float = 0.08,
    wobble: float = 0.0,
    extra: int = 0,
    extra_spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    regions: tuple[str, ...] = (),
    labels: tuple[str, ...] = ("lesion",),
    **facts: object,
) -> MadeDataset:
    """Cases around a shape and a spacing, of 12 kinds at most.

    Args:
        jitter: standard deviation of the shapes, relative.
        wobble: the same for the spacings, of the first axis and of the other two together.
        extra: more cases, with ``extra_spacing``.
    """
    generator = np.random.default_rng(sum(name.encode()))
    kinds = min(KINDS, cases)
    rows = []
    for kind in range(kinds + (extra > 0)):
        stretch = np.maximum(1 + jitter * generator.standard_normal(3), 0.3)
        size = [max(1, round(n * float(s))) for n, s in zip(shape, stretch, strict=True)]
        first, plane = (max(1 + wobble * float(generator.standard_normal()), 0.3) for _ in range(2))
        # Two digits: files often hold such numbers, and the recorded copy stays short.
        wobbled = tuple(round(s * w, 2) for s, w in zip(spacing, (first, plane, plane), strict=True))
        own = extra_spacing if kind == kinds else wobbled if wobble else spacing
        count = extra if kind == kinds else (cases + kinds - 1 - kind) // kinds
        rows.append((count, (size[0], size[1], size[2]), own))
    return MadeDataset(name=name, rows=tuple(rows), regions=regions, labels=regions or labels, **facts)  # type: ignore[arg-type]
