"""ISLES 2022, both copies: the BIDS download and the challenge's ``rawdata`` folder.

``[rawdata/]sub-strokecaseXXXX/ses-0001/[anat/|dwi/]*_{FLAIR,dwi,adc}.nii.gz`` in upper or lower case, labels
``derivatives/.../*_msk.nii.gz``. DWI, ADC and label share a grid; FLAIR has its own.
Source: doi:10.1038/s41597-022-01875-5
"""

from autoseg.datasets.layout import Layout, make_importer

IMPORTER = make_importer(
    "isles22",
    "sub-*/ses-*/ with *_dwi, *_adc and *_FLAIR.nii.gz, and derivatives/.../*_msk.nii.gz (ISLES 2022)",
    Layout(
        title="ISLES 2022",
        patterns=(
            r"^(?P<part>.*?)/derivatives/(?:.*/)?(?P<patient>sub-[^/]+)/(?:.*/)?(?P<case>[^/]+)_(?P<label>msk)",
            r"^(?!.*/derivatives/)(?P<part>.*?)(?:/rawdata)?/(?P<patient>sub-[^/]+)/(?:.*/)?"
            r"(?P<case>[^/]+)_(?P<kind>dwi|adc|flair)",
        ),
        channels={"DWI": "dwi", "ADC": "adc", "FLAIR": "flair"},
        known_by=("ADC", "label"),
        fields={
            "labels": {"background": 0, "lesion": 1},
            "licence": "as stated in the ISLES 2022 download; cite doi:10.1038/s41597-022-01875-5",
        },
    ),
)
