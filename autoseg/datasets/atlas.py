"""ATLAS (stroke lesions in T1), releases 2.0 and 1.2, as distributed.

R2.0: ``Training/R0xx/sub-r0xxs0yy/ses-1/anat/*_space-<space>_{T1w,label-L_desc-T1lesion_mask}.nii.gz``.
R1.2: ``Standard_MNI/Site<n>/<subject>/t0<n>/<subject>_{t1w_deface_stx,LesionSmooth_stx,LesionSmooth_1_stx}.nii.gz``,
one file per lesion, values 0 and 255; the native scans, ignored beside those in standard space, are named
``c0001s0004t01_{t1w,LesionSmooth*}``. The releases share scans.
Source: doi:10.1038/s41597-022-01401-7 (R2.0), doi:10.1038/sdata.2018.11 (R1.2)
"""

from autoseg.datasets.layout import Layout, make_importer

FIELDS = {
    "labels": {"background": 0, "lesion": 1},
    "mask_threshold": 0.5,
    "licence": "as stated in the ATLAS download; cite doi:10.1038/s41597-022-01401-7",
}
FILE = r"_(?:(?P<kind>t1w)|(?P<label>LesionSmooth))(?:_\w+?)??(?P<preferred>_stx)?"

IMPORTER = make_importer(
    "atlas",
    "R0xx/sub-r0xxs0yy/ses-1/anat/ with *_T1w and *_label-L_desc-T1lesion_mask.nii.gz (ATLAS R2.0), or "
    "Site<n>/<subject>/t01/ with *_t1w_deface_stx and *_LesionSmooth*_stx.nii.gz (ATLAS R1.2)",
    Layout(
        title="ATLAS R2.0",
        patterns=(
            r"/(?P<case>(?P<patient>sub-(?P<site>r\d+)s\d+)_ses-\w+?)_(?:space-\w+_)?"
            r"(?:(?P<kind>T1w)|(?P<label>label-L(?:_space-\w+)?_desc-T1lesion_mask))",
        ),
        channels={"T1": "t1w"},
        known_by=("label",),
        site=lambda match: match["site"].upper(),
        united_labels=True,
        fields=FIELDS,
    ),
    Layout(
        title="ATLAS R1.2",
        patterns=(
            r"/(?P<session>)(?P<case>(?P<patient>(?P<site>c\d+)s\d+)t\d+)" + FILE,
            r"(?:/(?P<site>site[^/]*)/[^/]+)?/(?P<session>[^/]+)/(?P<case>(?P<patient>\d+))" + FILE,
        ),
        channels={"T1": "t1w"},
        known_by=("label",),
        case=lambda match: "_".join(filter(None, match.group("case", "session"))),
        united_labels=True,
        fields=FIELDS,
    ),
)
