"""Subjects from names after BIDS."""

import pytest

from autoseg.datasets.bids import find_subject


@pytest.mark.parametrize(
    ("case", "subject"),
    [
        ("sub-01", "sub-01"),
        ("sub-01_ses-pre", "sub-01"),
        ("sub-Strokecase0001_ses-0001_run-2_dwi", "sub-Strokecase0001"),
        ("sub-01_FLAIR", "sub-01"),
        ("sub_01", None),
        ("sub-", None),
        ("patient-1_ses-2", None),
        ("sub-01__ses-1", None),
        ("sub-01 copy", None),
    ],
)
def test_the_subject_of_a_case(case, subject):
    assert find_subject(case) == subject
