"""Mouse brains after occlusion of the middle cerebral artery (T2w), as distributed.

``{train,val,test}_image/<id>.nii`` and ``{train,val,test}_mask/<id>_mask.nii``; autoseg makes folds of its own from
training and validation cases.
Source: doi:10.1038/s41598-023-39826-8
"""

from autoseg.datasets.layout import Layout, make_importer

IMPORTER = make_importer(
    "mouse",
    "{train,val,test}_image/<id>.nii and {train,val,test}_mask/<id>_mask.nii (mouse stroke, T2w)",
    Layout(
        title="the mouse stroke data",
        patterns=(
            r"(?P<part>/.*|)/(?P<split>train|val|test)_(?:(?P<kind>image)s?/(?P<image>[^/]+)"
            r"|(?P<label>mask)s?/(?P<mask>[^/]+?)(?:_mask)?)",
        ),
        channels={"T2": "image"},
        known_by=("T2", "label"),
        case=lambda match: match["image"] or match["mask"],
        fields={
            "labels": {"background": 0, "lesion": 1},
            "mask_threshold": 0.5,
            "licence": "as stated in the download; cite doi:10.1038/s41598-023-39826-8",
        },
    ),
)
