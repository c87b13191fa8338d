"""Masks as DICOM segmentation objects: exact voxels and geometry, references, codes, and no name of the patient."""

from itertools import permutations, product

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_series import BIRTH, GRID, NAME, NUMBER, STUDY, write_enhanced, write_series
from pydicom.sr.codedict import codes

from autoseg.core.errors import DataError
from autoseg.dicom.files import Source
from autoseg.dicom.pixels import read_volume
from autoseg.dicom.segmentation import code_label, read_segmentation, referenced_series, write_segmentation
from autoseg.dicom.studies import find_studies

RAMP = np.arange(np.prod(GRID.shape), dtype=np.uint16).reshape(GRID.shape)
ORDERS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)]
LABELS = {"edema": 1, "enhancing": 2}


def order_grid(axes, signs):
    """A grid whose array axes run along the world axes given, forwards or backwards."""
    direction = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        direction[world, axis] = sign
    return GRID.model_copy(update={"direction": tuple(map(tuple, direction.tolist()))})


def sort_by_world(voxels, grid):
    """(N,4) world place and value of every voxel, sorted by place: what a volume shows, whatever its axes."""
    index = np.stack(np.meshgrid(*map(np.arange, voxels.shape), indexing="ij"), -1).reshape(-1, 3)
    table = np.column_stack([grid.to_world(index).round(4), voxels.ravel()])
    return table[np.lexsort(table.T[2::-1])]


def make_mask(shape=GRID.shape):
    """(Z,Y,X) uint8 with two labels and no symmetry; the first slice is empty."""
    mask = (np.random.default_rng(0).random(shape) * 3).astype(np.uint8)
    mask[0] = 0
    return mask


def read_volume_of(folder):
    [study], failures = find_studies(folder)
    assert failures == {}
    return study.volumes[0]


def as_source(path):
    return Source(path=path, name=path.name, facts=(path.stat().st_size, 0))


def write(path, mask, volume, keep_patient=False):
    write_segmentation(path, mask, volume, LABELS, model="Tiny/3d", keep_patient=keep_patient)
    return path


@pytest.fixture
def volume(tmp_path):
    write_series(tmp_path / "scan", RAMP, SeriesNumber=7)
    return read_volume_of(tmp_path / "scan")


@pytest.mark.parametrize(("axes", "signs"), ORDERS)
def test_scan_and_mask_are_exact_in_all_48_orders_of_axes(axes, signs, tmp_path):
    grid = order_grid(axes, signs)
    write_series(tmp_path / "scan", RAMP, grid, reverse=signs[0] < 0)
    volume = read_volume_of(tmp_path / "scan")
    assert np.array_equal(sort_by_world(read_volume(volume), volume.grid), sort_by_world(RAMP, grid))
    mask = make_mask(volume.grid.shape)
    path = write(tmp_path / "mask.dcm", mask, volume)
    again, labels = read_segmentation(as_source(path), volume.grid)
    assert np.array_equal(again, mask)
    assert labels == {1: "edema", 2: "enhancing"}
    # A reader of another hand: highdicom's own volume, which omits empty slices.
    other = highdicom.seg.segread(path).get_volume(combine_segments=True)
    index = np.argwhere(other.array)
    place = index @ other.affine[:3, :3].T + other.affine[:3, 3]
    expected = np.argwhere(mask)
    order, mirror = np.lexsort(place.round(3).T), np.lexsort(volume.grid.to_world(expected).round(3).T)
    assert np.allclose(place[order], volume.grid.to_world(expected)[mirror], atol=1e-3)
    assert np.array_equal(other.array[tuple(index[order].T)], mask[tuple(expected[mirror].T)])


def test_the_object_references_every_image_and_states_codes_and_algorithm(volume, tmp_path):
    dataset = pydicom.dcmread(write(tmp_path / "mask.dcm", make_mask(), volume))
    [series] = dataset.ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == {
        frame.uid for frame in volume.frames
    }
    assert referenced_series(as_source(tmp_path / "mask.dcm")) == {volume.series.uid}
    assert (dataset.StudyInstanceUID, dataset.Modality, dataset.SegmentationType) == (STUDY, "SEG", "BINARY")
    assert dataset.FrameOfReferenceUID == volume.series.reference
    for segment, name, kind in zip(dataset.SegmentSequence, LABELS, ("Edema", "Neoplasm"), strict=True):
        [category], [typed] = segment.SegmentedPropertyCategoryCodeSequence, segment.SegmentedPropertyTypeCodeSequence
        assert category.CodeMeaning == "Morphologically Abnormal Structure"
        assert (typed.CodeMeaning, typed.CodingSchemeDesignator) == (kind, "SCT")
        assert segment.AnatomicRegionSequence[0].CodeMeaning == "Brain"
        assert segment.SegmentLabel == name
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "autoseg Tiny/3d"


@pytest.mark.parametrize("keep_patient", [False, True])
def test_the_patient_is_named_only_where_asked_for(volume, tmp_path, keep_patient):
    path = write(tmp_path / "mask.dcm", make_mask(), volume, keep_patient)
    dataset, content = pydicom.dcmread(path), path.read_bytes()
    for secret in (NAME, NUMBER, BIRTH, "House"):
        assert (secret.encode() in content) == keep_patient, secret
    assert (dataset.PatientName == NAME) == keep_patient


def test_a_mask_without_lesion_can_be_written_and_read(volume, tmp_path):
    path = write(tmp_path / "mask.dcm", np.zeros(GRID.shape, np.uint8), volume)
    mask, labels = read_segmentation(as_source(path), volume.grid)
    assert not mask.any()
    assert list(labels) == [1, 2]


def test_a_mask_with_one_label_is_read_back(volume, tmp_path):
    mask = (make_mask() > 0).astype(np.uint8)
    write_segmentation(tmp_path / "m.dcm", mask, volume, {"lesion": 1}, model="Tiny/3d", keep_patient=False)
    again, labels = read_segmentation(as_source(tmp_path / "m.dcm"), volume.grid)
    assert np.array_equal(again, mask)
    assert labels == {1: "lesion"}


def test_one_volume_of_an_enhanced_object_is_referenced(tmp_path):
    facts = ({"b": 0}, {"b": 1000})
    scan = write_enhanced(tmp_path / "scan" / "e.dcm", [RAMP, RAMP], facts=facts, description="DWI")
    volume = read_volume_of(tmp_path / "scan")
    path, mask = tmp_path / "mask.dcm", make_mask()
    write(path, mask, volume)
    assert np.array_equal(read_segmentation(as_source(path), volume.grid)[0], mask)
    [series] = pydicom.dcmread(path).ReferencedSeriesSequence
    uid = pydicom.dcmread(scan).SOPInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == [uid]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("lesion", "Lesion"), ("ischemic_stroke", "Lesion"), ("necrotic core", "Necrosis"), ("ET tumor", "Neoplasm"),
     ("Anterior", "Tissue"), ("right hippocampus", "Hippocampus"), ("white matter", "Tissue")],
)  # fmt: skip
def test_a_label_is_coded_by_the_words_of_its_name(name, kind):
    assert code_label(name)[1] == kind
    assert all(getattr(codes.SCT, part).scheme_designator == "SCT" for part in code_label(name))


def test_a_segmentation_beside_the_voxels_is_refused(volume, tmp_path):
    path = write(tmp_path / "mask.dcm", make_mask(), volume)
    moved = volume.grid.model_copy(update={"origin": tuple(np.add(volume.grid.origin, (0.4, 0, 0)).tolist())})
    with pytest.raises(DataError, match="does not lie on the voxels of the scan"):
        read_segmentation(as_source(path), moved)
    smaller = volume.grid.model_copy(update={"shape": (3, 8, 10)})
    with pytest.raises(DataError, match="reaches beyond the scan"):
        read_segmentation(as_source(path), smaller)


def test_a_scan_without_a_frame_of_reference_cannot_be_referenced(tmp_path):
    write_series(tmp_path / "scan", RAMP, FrameOfReferenceUID=None)
    with pytest.raises(DataError, match=r"cannot be referenced by a segmentation object .*FrameOfReferenceUID"):
        write(tmp_path / "mask.dcm", make_mask(), read_volume_of(tmp_path / "scan"))
    assert not (tmp_path / "mask.dcm").exists()
