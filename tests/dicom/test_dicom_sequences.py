"""Sequences by name, weighting and b-value; the series of each channel, with the rule, or a sentence that asks."""

import numpy as np
import pytest
from dicom_series import write_enhanced, write_series

from autoseg.core.errors import DataError
from autoseg.dicom.sequences import choose_volumes, find_kind, frequent_kinds, name_kind
from autoseg.dicom.studies import find_studies

RAMP = np.arange(480, dtype=np.uint16).reshape(6, 8, 10)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("AX FLAIR", "FLAIR"), ("t2_tirm_tra_dark-fluid_p2", "FLAIR"), ("3D CUBE T2 FLAIR", "FLAIR"),
        ("Ax T1 FLAIR", "T1"), ("t1_mprage_sag_p2_iso", "T1"), ("Sag BRAVO", "T1"), ("T1W_3D_TFE", "T1"),
        ("t1_mprage_sag GD", "T1c"), ("T1 post contrast", "T1c"), ("Ax T1 +C", "T1c"), ("t1ce", "T1c"), ("T1c", "T1c"),
        ("T2W_TSE", "T2"), ("t2_spc_sag", "T2"), ("T2* GRE", "T2star"), ("AX T2STAR", "T2star"), ("SWI_Images", "SWI"),
        ("ep2d_diff_b1000_TRACEW", "DWI"), ("ep2d_diff_ADC", "ADC"), ("dADC", "ADC"), ("isoDWI", "DWI"),
        ("PD_axial", "PD"), ("3-plane loc", "localiser"), ("AAHScout", "localiser"), ("posterior fossa", None),
        ("TOF_3D", "angiography"), ("CBV map", "perfusion"), ("axial", None), ("", None),
    ],
)  # fmt: skip
def test_a_kind_by_name(name, kind):
    assert name_kind(name)[0] == kind


@pytest.mark.parametrize(
    ("stated", "kind"),
    [
        ({"ScanningSequence": ["SE", "IR"], "EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500}, "FLAIR"),
        ({"ScanningSequence": ["GR", "IR"], "EchoTime": 3, "RepetitionTime": 2300, "InversionTime": 900}, "T1"),
        ({"ScanningSequence": "SE", "EchoTime": 12, "RepetitionTime": 550}, "T1"),
        ({"ScanningSequence": "SE", "EchoTime": 12, "RepetitionTime": 550, "ContrastBolusAgent": "Gadovist"}, "T1c"),
        ({"ScanningSequence": "SE", "EchoTime": 12, "RepetitionTime": 550, "ContrastBolusAgent": "NONE"}, "T1"),
        ({"ScanningSequence": "SE", "EchoTime": 100, "RepetitionTime": 5000}, "T2"),
        ({"ScanningSequence": "SE", "EchoTime": 15, "RepetitionTime": 3000}, "PD"),
        ({"ScanningSequence": "GR", "EchoTime": 25, "RepetitionTime": 800}, "T2star"),
        ({"ScanningSequence": "SE", "EchoTime": 45, "RepetitionTime": 1500}, None),
        ({"ScanningSequence": ["EP", "SE"], "EchoTime": 90, "RepetitionTime": 5000}, None),
        ({}, None),
    ],
)
def test_a_kind_by_weighting_where_no_name_tells(stated, kind, tmp_path):
    write_series(tmp_path, description="axial", **stated)
    [study], _ = find_studies(tmp_path)
    found, reason = find_kind(study.volumes[0])
    assert found == kind, reason
    assert kind is None or f"TE {stated['EchoTime']} ms" in reason


@pytest.fixture
def brain(tmp_path):
    """A study as a scanner sends it: localiser, FLAIR, T1 before and after contrast, DWI with ADC."""
    write_series(tmp_path / "s1", number=1, description="localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path / "s2", number=2, description="AX FLAIR")
    write_series(tmp_path / "s3", number=3, description="t1_mprage")
    write_series(tmp_path / "s4", number=4, description="t1_mprage", ContrastBolusAgent="Gadovist")
    facts = ({"b": 0}, {"b": 500}, {"b": 1000})
    write_enhanced(tmp_path / "s5" / "e", [RAMP, RAMP, RAMP], facts=facts, number=5, description="ep2d_diff")
    write_series(tmp_path / "s6", number=6, description="ep2d_diff_ADC", ImageType=["DERIVED", "PRIMARY", "ADC"])
    [study], failures = find_studies(tmp_path)
    assert failures == {}
    return study


def choose(study, *channels, **patterns):
    choices = choose_volumes("ann", channels, study.volumes, patterns)
    return {name: (choice.volume.series.number, choice.volume.part, choice.rule) for name, choice in choices.items()}


def test_every_channel_has_its_series_and_the_rule(brain):
    assert choose(brain, "FLAIR", "T1", "T1ce", "DWI", "ADC", "b500") == {
        "FLAIR": (2, "", "its name has 'flair'"),
        "T1": (3, "", "its name has 't1'"),
        "T1ce": (4, "", "its name has 't1', and a contrast agent is stated"),
        "DWI": (5, "b=1000", "its b-value is 1000, the highest of the study"),
        "ADC": (6, "", "its image type is ADC"),
        "b500": (5, "b=500", "its b-value is 500"),
    }


@pytest.mark.parametrize("pattern", ["4", "*mprage*series 4*", "T1_MPRAGE (series 4"])
def test_a_pattern_chooses_whatever_the_name_says(brain, pattern):
    assert choose(brain, "FLAIR", FLAIR=pattern) == {"FLAIR": (4, "", f"--channel FLAIR={pattern}")}


def test_a_missing_channel_lists_what_there_is(brain):
    with pytest.raises(DataError, match=r"no series may be channel T2; choose with --channel 'T2=PATTERN' \(AX FLAIR"):
        choose(brain, "FLAIR", "T2")


def test_two_series_that_fit_are_never_chosen_from(tmp_path):
    write_series(tmp_path / "a", number=1, description="FLAIR axial")
    write_series(tmp_path / "b", number=2, description="FLAIR sag")
    write_series(tmp_path / "c", number=3, description="FLAIR MPR", ImageType=["DERIVED", "SECONDARY", "MPR"])
    [study], _ = find_studies(tmp_path)
    with pytest.raises(DataError, match=r"2 series may be channel FLAIR; .*series 1.*series 2"):
        choose(study, "FLAIR")
    assert choose(study, "FLAIR", FLAIR="*sag*")["FLAIR"][0] == 2


def test_one_series_cannot_be_two_channels(brain):
    with pytest.raises(DataError, match=r"would be the channels T1, FLAIR|would be the channels FLAIR, T1"):
        choose(brain, "FLAIR", "T1", FLAIR="3")


def test_the_only_volume_is_the_only_channel_unless_it_is_something_else(tmp_path):
    write_series(tmp_path / "in", number=1, description="axial")
    [study], _ = find_studies(tmp_path / "in")
    assert choose(study, "FLAIR")["FLAIR"][2].startswith("it is the only volume")
    write_series(tmp_path / "other", number=1, description="t1_mprage")
    [study], _ = find_studies(tmp_path / "other")
    with pytest.raises(DataError, match=r"no series may be channel FLAIR.*T1, its name has 't1'"):
        choose(study, "FLAIR")


def test_a_channel_of_another_name_is_found_by_that_name(tmp_path):
    write_series(tmp_path / "a", number=1, description="UTE lung")
    write_series(tmp_path / "b", number=2, description="AX FLAIR")
    [study], _ = find_studies(tmp_path)
    assert choose(study, "UTE") == {"UTE": (1, "", "its name has 'UTE'")}


def test_a_double_echo_is_told_apart_by_its_echo_times(tmp_path):
    for echo, start in ((15, 0), (95, 50)):
        stated = {"ScanningSequence": "SE", "RepetitionTime": 3000, "EchoTime": echo}
        write_series(tmp_path, number=1, description="PD/T2 axial", start=start, **stated)
    [study], _ = find_studies(tmp_path)
    chosen = choose(study, "PD", "T2")
    assert (chosen["PD"][1], chosen["T2"][1]) == ("TE=15 ms", "TE=95 ms")


def test_kinds_that_half_of_the_studies_have_are_channels(brain):
    assert frequent_kinds([brain.volumes, brain.volumes[:2], []]) == ("FLAIR", "T1")
