"""Miniatures of datasets with one folder per case or scan: every name, number and oddity as distributed."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from autoseg.core.images import write_voxels
from autoseg.core.parallel import no_progress
from autoseg.core.records import Grid
from autoseg.datasets import import_dataset
from autoseg.options import ImportOptions

SHAPE = (10, 20, 30)
BOX = (slice(2, 4), slice(5, 8), slice(10, 14))  # 24 voxels


def scan(seed, shape=SHAPE):
    """(Z,Y,X) int16 noise."""
    return np.random.default_rng(seed).integers(1, 1000, shape).astype(np.int16)


def label(*values, shape=SHAPE):
    """(Z,Y,X) uint8, the box filled with the values in turn."""
    voxels = np.zeros(shape, np.uint8)
    voxels[BOX] = np.resize(np.array(values, np.uint8), voxels[BOX].shape)
    return voxels


def write(path, voxels, spacing=(1.0, 1.0, 1.0)):
    """An image of any format, spacing (z,y,x) in mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_voxels(path, voxels, Grid(shape=voxels.shape, spacing=spacing))
    return path


def import_folder(source, target, *, workers=1, progress=no_progress, **options):
    """Import a folder, in this process, as the dataset that the target is named after."""
    options = ImportOptions(**{"source": source, "dataset": target.name} | options)
    return import_dataset(options, target, workers=workers, progress=progress)


def write_vsd(case, kind, number, voxels, *, prefix="VSD.Brain.XX.O", ending=".mha"):
    name = f"{prefix}.{kind}.{number}"
    return write(case / name / f"{name}{ending}", voxels)


def make_spes(folder):
    for case in (1, 2):
        for offset, kind in enumerate(("MR_T1c", "MR_T2", "MR_DWI", "MR_CBF", "MR_CBV", "MR_TTP", "MR_Tmax")):
            write_vsd(
                folder / "SPES2015_Training" / str(case), kind, 80000 + 9 * case + offset, scan(offset), ending=".nii"
            )
        write_vsd(folder / "SPES2015_Training" / str(case), "OT", 90000 + case, label(1, 2), ending=".nii")
    return folder


def make_atlas(folder):
    """R2.0, with one scan of the test set."""
    (folder / "ATLAS_2" / "Training").mkdir(parents=True)
    (folder / "ATLAS_2" / "Training" / "dataset_description.json").write_text("{}")
    for part, site, subject in (("Training", 1, 1), ("Training", 2, 14), ("Testing", 3, 2)):
        name = f"sub-r{site:03d}s{subject:03d}"
        stem = f"{name}_ses-1_space-MNI152NLin2009aSym"
        anat = folder / "ATLAS_2" / part / f"R{site:03d}" / name / "ses-1" / "anat"
        write(anat / f"{stem}_T1w.nii.gz", scan(subject))
        if part == "Training":
            write(anat / f"{stem}_label-L_desc-T1lesion_mask.nii.gz", label(1))
    return folder


def make_atlas_12(folder):
    """R1.2: two lesions in two files of 0 and 255; a second session of one patient; the scans as they were, too."""
    other = np.zeros(SHAPE, np.uint8)
    other[9, 19, 29] = 255
    for site, subject, session in (("Site1", "031768", "t01"), ("Site1", "031768", "t02"), ("Site4", "031999", "t01")):
        inside = folder / "ATLAS_R1.2" / "Standard_MNI" / site / subject / session
        write(inside / f"{subject}_t1w_deface_stx.nii.gz", scan(int(subject)))
        write(inside / f"{subject}_LesionSmooth_stx.nii.gz", label(255))
        write(inside / f"{subject}_LesionSmooth_1_stx.nii.gz", other)
    native = folder / "ATLAS_R1.2" / "Native" / "c0001" / "c0001s0004t01"
    write(native / "c0001s0004t01_t1w.nii.gz", scan(7))
    write(native / "c0001s0004t01_LesionSmooth_Binary.nii.gz", label(1))
    return folder


def make_brats15(folder):
    """Both grades have a ``brats_2013_pat0001_1``; one patient was scanned twice; test cases have no label."""
    scans = (
        "HGG/brats_2013_pat0001_1",
        "HGG/brats_tcia_pat105_0001",
        "HGG/brats_tcia_pat105_0124",
        "LGG/brats_2013_pat0001_1",
    )
    for number, path in enumerate(scans):
        case = folder / "BRATS2015_Training" / path
        for offset, kind in enumerate(("MR_Flair", "MR_T1", "MR_T1c", "MR_T2")):
            write_vsd(case, kind, 54000 + 5 * number + offset, scan(10 * number + offset))
        write_vsd(case, "OT", 54900 + number, label(0, 1, 2, 3, 4), prefix="VSD.Brain_3more.XX.O")
        (case / f"VSD.Brain_3more.XX.O.OT.{54900 + number}" / "license.txt").write_text("as it is\n")
    return folder


def make_brats(folder, *, year=2020):
    """2019 with grades; 2020 with the odd label of case 355 and a validation case; 2021 with files in folders."""
    names = {
        2019: (
            "MICCAI_BraTS_2019_Data_Training/HGG/BraTS19_CBICA_AAB_1",
            "MICCAI_BraTS_2019_Data_Training/LGG/BraTS19_TCIA10_103_1",
        ),
        2020: (
            "MICCAI_BraTS2020_TrainingData/BraTS20_Training_001",
            "MICCAI_BraTS2020_TrainingData/BraTS20_Training_355",
        ),
        2021: ("BraTS2021_Training_Data/BraTS2021_00000", "BraTS2021_Training_Data/BraTS2021_00002"),
    }[year]
    ending = ".nii" if year == 2020 else ".nii.gz"
    for number, path in enumerate(names):
        case = folder / path
        for offset, kind in enumerate(("flair", "t1", "t1ce", "t2")):
            inside = case / f"{case.name}_{kind}.nii" if year == 2021 and number else case
            write(inside / f"{case.name}_{kind}{ending}", scan(10 * number + offset))
        odd = case.name == "BraTS20_Training_355"
        write(case / ("W39_1998.09.19_Segm.nii" if odd else f"{case.name}_seg{ending}"), label(0, 1, 2, 4))
    if year == 2020:
        (folder / "MICCAI_BraTS2020_TrainingData" / "name_mapping.csv").write_text("Grade\n")
        for kind in ("flair", "t1", "t1ce", "t2"):
            case = folder / "MICCAI_BraTS2020_ValidationData" / "BraTS20_Validation_001"
            write(case / f"{case.name}_{kind}.nii", scan(99))
    return folder


def make_brats23(folder):
    """One patient with two scans."""
    for name in ("BraTS-GLI-00002-000", "BraTS-GLI-00002-001", "BraTS-GLI-00017-000"):
        case = folder / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData" / name
        for offset, kind in enumerate(("t1n", "t1c", "t2w", "t2f")):
            write(case / f"{name}-{kind}.nii.gz", scan(offset))
        write(case / f"{name}-seg.nii.gz", label(0, 1, 2, 3))
    return folder


def make_lgg(folder, *, slices=11):
    """More than nine slices, so that text sorts them wrongly; the second patient has no pre-contrast scan."""
    for patient in ("TCGA_CS_4941_19960909", "TCGA_DU_5849_19950405"):
        for number in range(1, slices + 1):
            colours = np.random.default_rng(number).integers(1, 250, (16, 18, 3)).astype(np.uint8)
            colours[0, 0, 1] = number
            if "DU" in patient:
                colours[..., 0] = colours[..., 1]
            mask = np.zeros((16, 18), np.uint8)
            mask[4:6, 7:10] = 255 * (number == 10)
            stem = folder / "kaggle_3m" / patient / f"{patient}_{number}"
            stem.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), f"{stem}.tif")
            sitk.WriteImage(sitk.GetImageFromArray(mask), f"{stem}_mask.tif")
    (folder / "kaggle_3m" / "data.csv").write_text("Patient,RNASeqCluster\nTCGA_CS_4941,2\n")
    (folder / "kaggle_3m" / "README.md").write_text("# LGG Segmentation Dataset\n")
    return folder


def make_wmh(folder):
    """Three sites in training, a test case of a scanner with an awkward name, another observer's labels."""
    scanner = "Philips_VU .PETMR_01."
    for path in (
        "training/Utrecht/0",
        "training/Singapore/50",
        "training/Amsterdam/GE3T/100",
        f"test/Amsterdam/{scanner}/160",
    ):
        for space in ("orig", "pre"):
            write(folder / path / space / "FLAIR.nii.gz", scan(1), (3.0, 1.0, 1.0))
            write(folder / path / space / "T1.nii.gz", scan(2), (3.0, 1.0, 1.0))
            write(folder / path / space / "3DT1.nii.gz", scan(3, (20, 20, 20)))
        (folder / path / "orig" / "reg_3DT1_to_FLAIR.txt").write_text("0 0 0\n")
        write(folder / path / "wmh.nii.gz", label(1, 2), (3.0, 1.0, 1.0))
    observer = folder / "additional_annotations" / "observer_o3" / "training" / "Utrecht" / "0"
    write(observer / "result.nii.gz", label(1), (3.0, 1.0, 1.0))
    return folder


def make_openms(folder, *, pairs=False):
    """Cross-sectional in two spaces, raw channels on grids of their own; or pairs of scans."""
    database = folder / ("longitudinal" if pairs else "cross_sectional")
    words = (
        [f"study{n}_{w}" for n in (1, 2) for w in ("FLAIR", "T1W", "T2W")]
        if pairs
        else ["FLAIR", "T1W", "T1WKS", "T2W"]
    )
    for number in (1, 2):
        for space in ("coregistered", "raw"):
            patient = database / space / f"patient{number:02d}"
            for offset, word in enumerate(words):
                shape = (8, 20, 30) if space == "raw" and offset else SHAPE
                write(patient / f"{word}.nii.gz", scan(10 * number + offset, shape))
            write(patient / ("gt.nii.gz" if pairs else "consensus_gt.nii.gz"), label(1))
            if space == "coregistered":
                write(patient / "brainmask.nii.gz", label(1))
        (database / "coregistered" / f"patient{number:02d}" / "T1W_to_FLAIR.txt").write_text("1 0 0\n")
    return folder


def make_openms_archive(folder):
    """As the university's own archive has it: the patient in every name, raw scans in a folder of the patient."""
    for word in ("FLAIR", "T1W", "T1WKS", "T2W", "consensus_gt", "brainmask"):
        write(folder / "patient01" / f"patient01_{word}.nii.gz", label(1) if "_" in word else scan(len(word)))
    write(folder / "patient01" / "raw" / "patient01_FLAIR.nii.gz", scan(9))
    return folder


def make_mouse(folder):
    for split, case in (("train", "M01"), ("train", "M02"), ("val", "M03"), ("test", "M04")):
        spacing = (0.5, 0.0997, 0.0997)
        write(folder / f"{split}_image" / f"{case}.nii", scan(3), spacing)
        write(folder / f"{split}_mask" / f"{case}_mask.nii", label(1).astype(np.float32) * np.float32(0.9), spacing)
    return folder


def make_bids(folder):
    """Two sessions of one subject, an optional channel, a raw diffusion series, brain masks beside lesion masks."""
    for subject, session in (("01", "1"), ("01", "2"), ("02", "1")):
        stem = f"sub-{subject}_ses-{session}"
        inside = folder / f"sub-{subject}" / f"ses-{session}"
        write(inside / "anat" / f"{stem}_FLAIR.nii.gz", scan(1))
        write(inside / "anat" / f"{stem}_T1w.nii.gz", scan(2))
        write(inside / "dwi" / f"{stem}_dwi.nii.gz", scan(4))
        (inside / "dwi" / f"{stem}_dwi.bval").write_text("0 1000\n")
        if subject == "02":
            write(inside / "anat" / f"{stem}_ce-gad_T1w.nii.gz", scan(3))
        derived = folder / "derivatives" / "manual" / f"sub-{subject}" / f"ses-{session}" / "anat"
        write(derived / f"{stem}_space-FLAIR_label-lesion_mask.nii.gz", label(255))
        write(derived / f"{stem}_space-FLAIR_desc-brain_mask.nii.gz", label(1))
    (folder / "participants.tsv").write_text("participant_id\tsite\nsub-01\tBern\nsub-02\tn/a\n")
    (folder / "dataset_description.json").write_text('{"Name": "Lesions", "BIDSVersion": "1.8.0"}')
    return folder


MAKERS = {
    "spes": (make_spes, "isles15"),
    "atlas": (make_atlas, "atlas"),
    "atlas_12": (make_atlas_12, "atlas"),
    "brats15": (make_brats15, "brats15"),
    "brats_2019": (lambda folder: make_brats(folder, year=2019), "brats"),
    "brats_2020": (make_brats, "brats"),
    "brats_2021": (lambda folder: make_brats(folder, year=2021), "brats"),
    "brats23": (make_brats23, "brats23"),
    "lgg": (make_lgg, "lgg"),
    "wmh": (make_wmh, "wmh"),
    "openms": (make_openms, "openms"),
    "openms_pairs": (lambda folder: make_openms(folder, pairs=True), "openms"),
    "openms_archive": (make_openms_archive, "openms"),
    "mouse": (make_mouse, "mouse"),
    "bids": (make_bids, "bids"),
}


def make(name: str, folder: Path) -> Path:
    """The miniature of that name in a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return MAKERS[name][0](folder)
