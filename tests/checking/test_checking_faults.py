"""Made faults: each is found, as its kind, and its case is ranked before the clean ones."""

import numpy as np
import pytest
from made_heads import DATASET, GRID, make_case, write_case

from autoseg.checking import KINDS, find_suspicions, open_case
from autoseg.checking.compare import find_reversed, isolate


def regrid(label, **update):
    return GRID.model_copy(update={"shape": label.shape, **update})


def widen(image, label):
    """The scan with empty space at its right, and the mask in it."""
    image = np.pad(image, ((0, 0), (0, 0), (0, 0), (0, 22)))
    label = np.pad(label, ((0, 0), (0, 0), (22, 0)))
    return image, label, regrid(label)


def cut(image, label):
    """The scan from the middle of the lesion on."""
    start = int(np.median(np.argwhere(label)[:, 0]))
    return image[:, start:], label[start:], regrid(label[start:])


def spike(image, label):
    image = image.copy()
    image[0, 12, 14, 11] = 50_000
    return image, label


def flat(image, label):
    return np.stack([label * 100, image[1]]), label


FAULTS = {
    "mask is the scan": ("image-as-mask", lambda i, m: (i, i[0])),
    "mask is another scan": ("image-as-mask", lambda i, m: (i, i[0] + i[1])),
    "channel is a mask": ("image-as-mask", flat),
    "255 for 1": ("mask-values", lambda i, m: (i, m * 255)),
    "2 for 1": ("mask-values", lambda i, m: (i, m * 2)),
    "0.99999988 for 1": ("mask-values", lambda i, m: (i, m * np.float32(0.9999999))),
    "outside": ("outside", widen),
    "mask mirrored": ("mirrored-mask", lambda i, m: (i, m[..., ::-1])),
    "mask back to front": ("mirrored-mask", lambda i, m: (i, m[:, ::-1])),
    "scan mirrored": ("mirrored-scan", lambda i, m: (i[..., ::-1], m[..., ::-1])),
    "scan upside down": ("mirrored-scan", lambda i, m: (i[:, ::-1], m[::-1])),
    "spacing ten times": ("spacing", lambda i, m: (i, m, regrid(m, spacing=(20.0, 15.0, 15.0)))),
    "half a head": ("head-size", lambda i, m: (i[:, 10:], m[10:], regrid(m[10:]))),
    "channels identical": ("channels-identical", lambda i, m: (i[[0, 0]], m)),
    "channels swapped": ("channels-swapped", lambda i, m: (i[[1, 0]], m)),
    "other scale": ("intensity", lambda i, m: (i * 5000, m)),
    "spike": ("intensity", spike),
    "cut": ("cut", cut),
    "empty": ("label-missing", lambda i, m: (i, m * 0)),
    "another size": ("unreadable", lambda i, m: (i, m[1:], GRID)),
}


@pytest.mark.parametrize(("kind", "make"), FAULTS.values(), ids=FAULTS)
def test_a_made_fault_is_found_and_its_case_is_first(kind, make, clean, tmp_path):
    image, label, *grid = make(*make_case(100))
    if kind == "unreadable":
        case = write_case(tmp_path, "odd", image, make_case(100)[1])
        write_case(tmp_path, "other", image[:1], label, regrid(label))
        (tmp_path / "other.nii").rename(case.labels[0])
    else:
        case = write_case(tmp_path, "odd", image, label, *grid)
    suspicions = find_suspicions(DATASET, [*clean, open_case(DATASET, case).signs])

    assert suspicions[0].case == "odd"
    assert kind in {suspicion.kind for suspicion in suspicions if suspicion.case == "odd"}
    assert {suspicion.case for suspicion in suspicions} == {"odd"}


def test_clean_cases_raise_no_suspicion(clean):
    assert find_suspicions(DATASET, clean) == ()
    assert find_suspicions(DATASET, clean[:1]) == ()


def test_every_kind_has_a_made_fault():
    repeats = {"same-scan", "same-mask"}
    assert {kind for kind, _ in FAULTS.values()} | repeats == set(KINDS)


def test_one_scan_of_two_patients_is_found_and_of_one_patient_is_not(clean, tmp_path):
    for patient, expected in (("other", [("case03", "same-scan", "certain")]), ("case03", [])):
        twin = open_case(DATASET, write_case(tmp_path, "twin", *make_case(3), group=patient)).signs
        found = find_suspicions(DATASET, [*clean, twin])
        assert [(s.case, s.kind, s.certainty) for s in found] == expected


def test_a_scan_that_was_smoothed_and_saved_again_is_nearly_the_same(clean, tmp_path):
    image, label = make_case(3)
    noisy = image * 3 + np.where(image > 0, 1, 0)
    found = find_suspicions(DATASET, [*clean, open_case(DATASET, write_case(tmp_path, "twin", noisy, label)).signs])
    assert ("case03", "same-scan", ("twin",)) in [(s.case, s.kind, s.cases) for s in found]


def test_the_mask_of_another_patient_is_found(clean, tmp_path):
    case = write_case(tmp_path, "odd", make_case(100)[0], make_case(3)[1])
    found = find_suspicions(DATASET, [*clean, open_case(DATASET, case).signs])
    assert ("case03", "same-mask", ("odd",)) in [(s.case, s.kind, s.cases) for s in found]


def test_three_cases_of_another_scanner_are_not_suspicious():
    assert isolate(np.array([1.0, 1.0, 1.1, 1.0, 5.0, 5.0, 5.1])).max() < 0.2
    assert isolate(np.array([1.0, 1.0, 1.1, 1.0, 5.0, 5.0])).tolist()[4:] == pytest.approx([3.9, 3.9])


def test_a_difference_that_points_the_other_way_is_reversed():
    rng = np.random.default_rng(0)
    differences = rng.normal((3.0, -1.0), 0.5, (20, 2))
    assert find_reversed(differences).max() == 0
    differences[7] *= -1
    strengths = find_reversed(differences)
    assert strengths[7] > 1.5
    assert np.delete(strengths, 7).max() == 0
    assert find_reversed(rng.normal(0, 1, (20, 2))).max() == 0  # the cases agree on nothing
