"""White matter hyperintensities (WMH challenge, MICCAI 2017), as distributed.

``{training,test}/<site>[/<scanner>]/<id>/{pre,orig}/{FLAIR,T1,3DT1}.nii.gz`` and ``<id>/wmh.nii.gz`` with 1 for WMH and
2 for other pathology, which counts neither way; Amsterdam alone has scanners. ``pre`` holds the scans with their bias
field corrected; T1 lies on the grid of FLAIR.
Source: doi:10.1109/TMI.2019.2905770
"""

import re

from autoseg.datasets.layout import Layout, make_importer

CASE = r"(?:/(?P<split>training|test|public))?/(?P<place>(?:amsterdam/)?[^/]+)/(?P<number>[^/]+)/"


def site(match: "re.Match[str]") -> str:
    """``Amsterdam/Philips_VU .PETMR_01.`` -> ``Amsterdam_Philips_VU_PETMR_01``."""
    return re.sub(r"[^A-Za-z0-9]+", "_", match["place"]).strip("_")


IMPORTER = make_importer(
    "wmh",
    "training/<site>/<id>/ with pre/FLAIR.nii.gz, pre/T1.nii.gz and wmh.nii.gz (WMH challenge 2017)",
    Layout(
        title="the WMH challenge",
        patterns=(CASE + "(?:(?P<preferred>pre)|orig)/(?P<kind>FLAIR|T1)", CASE + "(?P<label>wmh)"),
        channels={"FLAIR": "flair", "T1": "t1"},
        known_by=("FLAIR", "label"),
        case=lambda match: f"{site(match)}_{match['number']}",
        site=site,
        fields={
            "labels": {"background": 0, "lesion": 1},
            "ignore_label": 2,
            "licence": "as stated in the WMH challenge download; cite doi:10.1109/TMI.2019.2905770",
        },
    ),
)
