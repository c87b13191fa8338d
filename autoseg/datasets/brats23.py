"""BraTS from 2023 on, as distributed: ``BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz``.

The first number is the patient, the second the scan. The tasks GLI, MEN, MET, PED and SSA share names and labels 0 to
3; labels of later years that hold more are refused when they are read, because their values mean something else.
Source: arXiv:2305.17033
"""

from autoseg.datasets.brats import TUMOUR
from autoseg.datasets.layout import Layout, make_importer

IMPORTER = make_importer(
    "brats23",
    "BraTS-GLI-<patient>-<scan>/ with *-t1n, *-t1c, *-t2w, *-t2f and *-seg.nii.gz (BraTS 2023)",
    Layout(
        title="BraTS 2023",
        patterns=(
            r"/(?P<case>(?P<patient>(?P<part>BraTS-(?:GLI|MEN|MET|PED|SSA))-\d+)-\d+)"
            r"-(?:(?P<kind>t1n|t1c|t2w|t2f)|(?P<label>seg))",
        ),
        channels={"FLAIR": "t2f", "T1": "t1n", "T1c": "t1c", "T2": "t2w"},
        known_by=(),
        fields=TUMOUR,
    ),
)
