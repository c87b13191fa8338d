"""BraTS 2015, as distributed: MetaImage files, each in a folder of its own.

``{HGG,LGG}/<case>/VSD.Brain.XX.O.MR_{Flair,T1,T1c,T2}.<id>/<same>.mha``, the label
``VSD.Brain_3more.XX.O.OT.<id>``, values 0 to 4. Cases ``brats_tcia_pat105_0001`` and ``brats_tcia_pat105_0124`` are
scans of one patient, and both grades have a ``brats_2013_pat0001``, who are two.
Source: doi:10.1109/TMI.2014.2377694
"""

from autoseg.datasets.brats import TUMOUR
from autoseg.datasets.isles15 import VSD_FILE, VSD_FOLDER
from autoseg.datasets.layout import Layout, make_importer

CASE = r"/(?:(?P<grade>HGG|LGG)/)?(?P<case>(?P<patient>brats_\w*pat\d+)[^/]*)"

IMPORTER = make_importer(
    "brats15",
    "{HGG,LGG}/brats_*_pat<number>_*/VSD.Brain.XX.O.MR_{Flair,T1,T1c,T2}.<id>/*.mha and ...OT.<id>/*.mha (BraTS 2015)",
    Layout(
        title="BraTS 2015",
        patterns=(CASE + VSD_FILE, CASE + VSD_FOLDER),
        channels={"FLAIR": "mr_flair", "T1": "mr_t1", "T1c": "mr_t1c", "T2": "mr_t2"},
        known_by=("T1c",),
        case=lambda match: "_".join(filter(None, match.group("grade", "case"))),
        patient=lambda match: "_".join(filter(None, match.group("grade", "patient"))),
        fields=TUMOUR
        | {
            "labels": {"background": 0, "necrosis": 1, "oedema": 2, "non_enhancing_tumour": 3, "enhancing_tumour": 4},
            "regions": {"whole_tumour": (2, 1, 3, 4), "tumour_core": (1, 3, 4), "enhancing_tumour": (4,)},
        },
    ),
)
