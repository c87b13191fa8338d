"""The multiple sclerosis scans of the University of Ljubljana (open MS data), cross-sectional and longitudinal.

``cross_sectional/<space>/patientXX/{FLAIR,T1W,T1WKS,T2W,consensus_gt,brainmask}.nii.gz`` and
``longitudinal/<space>/patientXX/{study1_*,study2_*,gt,brainmask}.nii.gz``, the space being ``coregistered``, which is
preferred, ``raw`` or ``MNI``; the original archives name files ``patientXX_FLAIR`` and ``patientX_study1_FLAIRreg`` and
hold raw scans in a folder ``raw`` of each patient.

The longitudinal label marks what changed between two scans, so it is the label of neither: a pair is one case with the
channels of both.
Source: doi:10.1007/s12021-017-9348-7, doi:10.1007/s12021-016-9301-1
"""

from autoseg.datasets.layout import Layout, make_importer

KINDS = {"FLAIR": "flair", "T1": "t1w?", "T1c": "t1wks|t1post", "T2": "t2w?"}
ANY = "|".join(KINDS.values())
CASE = r"(?P<part>/.*?)(?:/(?P<preferred>coregistered))?/(?P<case>(?P<patient>patient\d+))/(?:patient\d+_)?"

IMPORTER = make_importer(
    "openms",
    "patient<number>/ with FLAIR, T1W, T1WKS, T2W and consensus_gt.nii.gz, or study1_*, study2_* and gt.nii.gz "
    "(open MS data)",
    Layout(
        title="the open MS data, cross-sectional",
        patterns=(CASE + rf"(?:(?P<kind>{ANY})(?:reg)?|(?P<label>consensus|gold))(?:_\w+)?",),
        channels=KINDS,
        known_by=("label",),
        optional_channels=True,
        fields={"labels": {"background": 0, "lesion": 1}, "licence": "CC BY; cite doi:10.1007/s12021-017-9348-7"},
    ),
    Layout(
        title="the open MS data, longitudinal",
        patterns=(CASE + rf"(?:(?P<kind>study\d_(?:{ANY}))(?:reg)?|(?P<label>gt))(?:_\w+)?",),
        channels={f"study{n}_{name}": f"study{n}_(?:{kind})" for n in (1, 2) for name, kind in KINDS.items()},
        known_by=("label",),
        optional_channels=True,
        fields={
            "labels": {"background": 0, "lesion_change": 1},
            "licence": "CC BY; cite doi:10.1007/s12021-016-9301-1",
        },
    ),
)
