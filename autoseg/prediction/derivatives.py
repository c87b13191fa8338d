"""Masks as derivatives of a BIDS dataset: names, sidecars and the description of the folder.

Source: https://bids-specification.readthedocs.io, "Derivatives" (common, imaging), version 1.10.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

import autoseg
from autoseg.core.image_files import real_path
from autoseg.core.images import strip_ending, write_voxels
from autoseg.core.records import Case, Label, Plan
from autoseg.core.store import check_ours, write_text
from autoseg.datasets.bids_scans import is_bids

DESCRIPTION = "dataset_description.json"
LABEL_TABLE = "desc-autoseg_dseg.tsv"
IGNORED = (
    "predictions",
    "overlays",
    "lesions.csv",
    "lesions_per_case.csv",
    "report.html",
    "doubts.json",
    "run.json",
    "*run.json",
    "*run.log",
)
SUBJECT = re.compile(r"sub-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*_[A-Za-z0-9]+")


def is_derivative(output: Path, scans: Path) -> bool:
    """Whether masks in a folder are derivatives of a BIDS dataset: ``BIDS/derivatives/<name>``."""
    folder = real_path(output)
    return folder.parent.name == "derivatives" and is_bids(scans) and folder.parent.parent == real_path(scans)


def place_derivative(output: Path, scan: Path, suffix: str) -> Path:
    """File of a mask or of probabilities beside the others of its subject and session.

    Args:
        output: the folder of derivatives.
        scan: the first channel; its entities are kept.
        suffix: the last entities and the suffix: ``desc-autoseg_mask``.
    """
    stem = strip_ending(scan)
    entities = stem.rpartition("_")[0] if SUBJECT.fullmatch(stem) else stem
    levels = [part for part in entities.split("_") if part.startswith(("sub-", "ses-"))][:2]
    datatype = "dwi" if scan.parent.name == "dwi" else "anat"  # masks of perf are not defined
    return output.joinpath(*levels, datatype, f"{entities}_{suffix}.nii.gz")


def name_mask(plan: Plan) -> str:
    """Last entities and suffix of a mask: ``mask`` for one label, ``dseg`` for several."""
    return "desc-autoseg_mask" if len(list_labels(plan)) == 1 else "desc-autoseg_dseg"


def list_labels(plan: Plan) -> dict[str, int]:
    """Labels of a mask but the background."""
    return {name: value for name, value in plan.labels.items() if value not in (0, plan.ignore_label)}


def name_probabilities(plan: Plan) -> dict[str, str]:
    """Output of the network but the background -> last entities and suffix; a label has only letters and digits."""
    outputs = plan.outputs
    names = [name for name, value in zip(outputs.names, outputs.values, strict=True) if outputs.overlap or value != 0]
    words = {name: re.sub(r"[^A-Za-z0-9]", "", name) for name in names}
    unique = len(set(words.values()) - {""}) == len(names)
    return {
        name: f"label-{words[name] if unique else number}_desc-autoseg_probseg"
        for number, name in enumerate(names, start=1)
    }


def write_probsegs(files: Sequence[Path], probabilities: np.ndarray, plan: Plan, mask: Label, scan: Path) -> None:
    """Write the probabilities of each label or region as an image.

    Args:
        files: in the order of ``name_probabilities``.
        probabilities: (K,Z,Y,X) float16 on the mask's grid.
        plan: of the model.
        mask: of the scan.
        scan: whose geometry is copied.
    """
    shown = probabilities if plan.outputs.overlap else probabilities[1:]
    for path, voxels in zip(files, shown, strict=True):
        write_voxels(path, voxels.astype(np.float32), mask.grid, like=scan)


def write_sidecars(files: Sequence[Path], case: Case, bids: Path, *, model: str, key: str) -> None:
    """Write ``.json`` beside images: their scans, the model with the hash of its weights and plan, and versions.

    Args:
        files: the images.
        case: the scans they were made of.
        bids: folder of the dataset.
        model: its name.
        key: the model's hash.
    """
    sources = [file.path.absolute().relative_to(bids.absolute()).as_posix() for file in case.channels]
    for path in files:
        is_mask = path.name.endswith("_mask.nii.gz")
        content: Mapping[str, object] = {
            "Description": "Lesions predicted by autoseg",
            **({"Type": "Lesion"} if is_mask else {}),
            "Manual": False,
            "Sources": [f"bids:raw:{source}" for source in sources],
            "SpatialReference": f"bids:raw:{sources[0]}",
            "Model": model,
            "ModelHash": key,
            "Versions": {"autoseg": autoseg.__version__, "torch": torch.__version__, "numpy": np.__version__},
        }
        write_text(path.with_name(f"{strip_ending(path)}.json"), json.dumps(content, indent=2) + "\n")


def check_description(output: Path) -> None:
    """Refuse a folder that another program described.

    Raises:
        UsageError: its description does not name autoseg.
    """
    check_ours(output / DESCRIPTION, '"autoseg"')


def write_description(output: Path, plan: Plan, model: str) -> None:
    """Write what makes the folder a dataset of its own: description, README, table of labels, files to ignore."""
    description = {
        "Name": f"Lesions predicted by autoseg ({model})",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [
            {"Name": "autoseg", "Version": autoseg.__version__, "Description": f"autoseg_predict, model {model}"}
        ],
        "SourceDatasets": [{"URL": "../.."}],
        "DatasetLinks": {"raw": "../.."},
    }
    texts = {
        DESCRIPTION: json.dumps(description, indent=2) + "\n",
        ".bidsignore": "".join(f"{name}\n" for name in IGNORED),
        "README.md": f"# Masks by autoseg\n\nLesions predicted by autoseg {autoseg.__version__} with the model {model}."
        " The files .json beside the masks name the scans, the hash of the model and the versions. Research software: "
        "not for diagnosis or treatment.\n",
    }
    labels = list_labels(plan)
    if len(labels) > 1:
        rows = "".join(f"{value}\t{name}\n" for name, value in labels.items())
        texts[LABEL_TABLE] = f"index\tname\n0\tbackground\n{rows}"
    for name, text in texts.items():
        write_text(output / name, text)
