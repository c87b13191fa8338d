"""BraTS 2017 to 2021, as distributed: one folder per case.

``[{HGG,LGG}/]<case>/<case>_{flair,t1,t1ce,t2,seg}.nii[.gz]``; the grades are folders until 2019. One label of 2020
kept another name, ``W39_1998.09.19_Segm.nii``, and some copies put each file into a folder of its own name. On disk the
enhancing tumour is 4, here 3. Until 2019 the name of a case contains the institution that scanned it.
Source: doi:10.1109/TMI.2014.2377694 (regions), arXiv:1811.02629, arXiv:2107.02314
"""

from autoseg.datasets.layout import Layout, make_importer

# The first value of each region is the one that it is painted with; no later region holds it.
TUMOUR = {
    "labels": {"background": 0, "necrotic_core": 1, "oedema": 2, "enhancing_tumour": 3},
    "regions": {"whole_tumour": (2, 1, 3), "tumour_core": (1, 3), "enhancing_tumour": (3,)},
    "licence": "as stated in the BraTS download; cite doi:10.1109/TMI.2014.2377694",
}

IMPORTER = make_importer(
    "brats",
    "BraTS*_*/ with *_flair, *_t1, *_t1ce, *_t2 and *_seg.nii.gz, perhaps in HGG and LGG (BraTS 2017-2021)",
    Layout(
        title="BraTS 2017 to 2021",
        patterns=(
            r"/(?P<case>brats(?:1[789]_(?P<site>[^_/]+)\w*|20_\w+|2021_\w+))(?:/[^/]+\.nii(?:\.gz)?)?"
            r"/(?:[^/]*_)?(?:(?P<kind>flair|t1|t1ce|t2)|(?P<label>segm?))",
        ),
        channels={"FLAIR": "flair", "T1": "t1", "T1c": "t1ce", "T2": "t2"},
        known_by=("T1c",),
        fields=TUMOUR | {"label_values": {1: 1, 2: 2, 4: 3}},
    ),
)
