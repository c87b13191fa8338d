"""ISLES 2015, as distributed: SISS (sub-acute lesions) and SPES (penumbra and core), one folder per file.

``SISS2015_Training/<1..28>/VSD.Brain.XX.O.MR_{DWI,Flair,T1,T2}.<id>/<same>.nii`` and
``SPES2015_Training/<1..30>/VSD.Brain.XX.O.MR_{T1c,T2,DWI,CBF,CBV,TTP,Tmax}.<id>/<same>.nii``; the label is
``VSD.Brain.XX.O.OT.<id>``. SPES may have its labels three times: core and penumbra each alone, and merged.
Source: doi:10.1016/j.media.2016.07.009
"""

from autoseg.datasets.layout import Layout, make_importer

# Files of the Virtual Skeleton Database lie in a folder of their own name; one with another name is what its folder is.
VSD_KIND = r"\.(?:(?P<kind>MR_\w+)|(?P<label>OT))\.\d+"
VSD_FILE = rf"(?:/VSD\.[^/]*)?/[^/]*{VSD_KIND}(?:_\w+)?"
VSD_FOLDER = rf"/VSD\.[^/]*{VSD_KIND}/[^/]+"

CASE = r"^(?!.*_(?:core|penumbra)label)(?P<part>.*/(?:(?P<preferred>[^/]*train[^/]*)|[^/]*))/(?P<number>\d+)"
LICENCE = {"licence": "as stated in the ISLES 2015 download; cite doi:10.1016/j.media.2016.07.009"}

IMPORTER = make_importer(
    "isles15",
    "SISS2015_Training/<number>/VSD.Brain.XX.O.MR_{DWI,Flair,T1,T2}.<id>/*.nii, or SPES2015_Training with "
    "MR_{T1c,T2,DWI,CBF,CBV,TTP,Tmax}, and ...OT.<id>/*.nii (ISLES 2015)",
    Layout(
        title="ISLES 2015 SISS",
        patterns=(CASE + VSD_FILE, CASE + VSD_FOLDER),
        channels={"DWI": "mr_dwi", "FLAIR": "mr_flair", "T1": "mr_t1", "T2": "mr_t2"},
        known_by=("DWI", "FLAIR"),
        case=lambda match: f"siss_{int(match['number']):02d}",
        fields=LICENCE | {"labels": {"background": 0, "lesion": 1}},
    ),
    Layout(
        title="ISLES 2015 SPES",
        patterns=(CASE + VSD_FILE, CASE + VSD_FOLDER),
        channels={name: f"mr_{name}" for name in ("T1c", "T2", "DWI", "CBF", "CBV", "TTP", "Tmax")},
        known_by=("DWI", "Tmax"),
        case=lambda match: f"spes_{int(match['number']):02d}",
        fields=LICENCE | {"labels": {"background": 0, "penumbra": 1, "core": 2}},
    ),
)
