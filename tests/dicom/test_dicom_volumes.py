"""Series to volumes: every slice at its place, and a sentence for every series that is not a volume."""

import re

import numpy as np
import pytest
from dicom_series import GRID, NAME, save, write_enhanced, write_series
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from autoseg.core.records import Grid
from autoseg.dicom.pixels import read_volume
from autoseg.dicom.studies import find_studies

RAMP = np.arange(np.prod(GRID.shape), dtype=np.uint16).reshape(GRID.shape)


def read_one(folder):
    """The only volume of the only study."""
    [study], failures = find_studies(folder)
    assert failures == {}
    [volume] = study.volumes
    return volume, read_volume(volume)


def left_out(folder):
    [study], failures = find_studies(folder)
    assert failures == {}
    return [series.reason for series in study.left_out]


def test_an_oblique_series_keeps_its_geometry(tmp_path):
    turn = np.linalg.qr(np.array([[0.9, 0.2, 0.1], [-0.3, 0.8, 0.2], [0.1, -0.2, 0.95]]))[0]
    turn[:, 0] *= -np.sign(np.linalg.det(turn))
    grid = GRID.model_copy(update={"direction": tuple(map(tuple, turn.tolist()))})
    write_series(tmp_path, RAMP, grid)
    volume, voxels = read_one(tmp_path)
    assert np.array_equal(voxels, RAMP)
    assert voxels.dtype == np.uint16
    assert volume.grid.matches(grid, tolerance_mm=1e-4)


def test_slices_are_sorted_by_place_and_scaled_one_by_one(tmp_path):
    def scale(index, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + index, -index

    write_series(tmp_path, RAMP, change=scale, reverse=True)
    _, voxels = read_one(tmp_path)
    slopes = np.arange(6)[:, None, None]
    assert voxels.dtype == np.float32
    assert np.array_equal(voxels, (RAMP * (0.5 + slopes) - slopes).astype(np.float32))


def test_values_with_a_sign_and_twelve_bits_are_read(tmp_path):
    def sign(index, dataset):
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 12, 11
        dataset.PixelData = (RAMP[index].astype(np.int16) - 300).astype("<i2").tobytes()

    write_series(tmp_path, RAMP, change=sign)
    assert np.array_equal(read_one(tmp_path)[1], RAMP.astype(np.int16) - 300)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_compressed_pixels_are_the_same(syntax, tmp_path):
    def compress(index, dataset):
        if syntax == JPEG2000Lossless:  # pydicom needs a plugin to write it: Pillow's codec gives the stream
            import io

            from PIL import Image
            from pydicom.encaps import encapsulate

            stream = io.BytesIO()
            Image.fromarray(RAMP[index]).save(stream, "JPEG2000", no_jp2=True)
            dataset.PixelData = encapsulate([stream.getvalue()])
            dataset["PixelData"].is_undefined_length = True
        else:
            from pydicom.dataset import FileMetaDataset

            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
            dataset.compress(syntax, generate_instance_uid=False)
        path = save(dataset, tmp_path / "plain")
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path.with_name(f"IM{index}"), enforce_file_format=True)
        path.unlink()
        return False

    write_series(tmp_path, RAMP, change=compress)
    assert np.array_equal(read_one(tmp_path)[1], RAMP)


def test_an_enhanced_object_has_one_volume_per_b_value(tmp_path):
    other = RAMP[::-1].copy()
    facts = ({"b": 0}, {"b": 1000, "slope": 2.0, "intercept": 1.0})
    write_enhanced(tmp_path / "enhanced.dcm", [RAMP, other], facts=facts, description="DWI")
    [study], _ = find_studies(tmp_path)
    volumes = {volume.part: volume for volume in study.volumes}
    assert sorted(volumes) == ["b=0", "b=1000"]
    assert np.array_equal(read_volume(volumes["b=0"]), RAMP)
    assert np.array_equal(read_volume(volumes["b=1000"]), other * 2.0 + 1)
    assert all(volume.grid.matches(GRID) for volume in volumes.values())


def test_a_classic_series_is_divided_by_image_type_and_echo(tmp_path):
    write_series(tmp_path, ImageType=["DERIVED", "PRIMARY", "ADC"], EchoTime=90)
    write_series(tmp_path, ImageType=["DERIVED", "PRIMARY", "TRACEW"], EchoTime=90, start=100)
    [study], _ = find_studies(tmp_path)
    assert [volume.part for volume in study.volumes] == ["ADC", "TRACEW"]


def missing(index, dataset):
    return index != 3


def uneven(index, dataset):
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, z + 1.3 * (index == 3)]


def tilted(index, dataset):
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y + 0.8 * index, z]


def mixed(index, dataset):
    if index > 3:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def wider(index, dataset):
    if index == 2:
        dataset.PixelSpacing = [1.5, 1.5]


def localiser(index, dataset):
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def colour(index, dataset):
    dataset.SamplesPerPixel = 3


def mosaic(index, dataset):
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]


def nowhere(index, dataset):
    if index == 1:
        del dataset.ImagePositionPatient


def skewed(index, dataset):
    dataset.ImageOrientationPatient = [1, 0, 0, 0.7, 0.7, 0]


def few(index, dataset):
    return index < 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (missing, r"lacks 1 of 6 slices \(number 4\)"),
        (uneven, r"uneven distances between slices \(1.7 to 4.3 mm\)"),
        (tilted, r"is tilted: .* by 14.9 degrees"),
        (mixed, "slices in 2 orientations, as a localiser"),
        (wider, "different pixel spacings"),
        (localiser, "is a localiser"),
        (colour, "colour picture"),
        (mosaic, "mosaic of slices; convert it with dcm2niix"),
        (nowhere, "states no position in the patient"),
        (skewed, "an orientation or a spacing that cannot be"),
        (few, "has 2 slices; a volume has 3 or more"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_not_a_volume_is_left_out_with_the_reason(change, sentence, tmp_path):
    write_series(tmp_path, change=change)
    [reason] = left_out(tmp_path)
    assert re.search(sentence, reason), reason


def test_doubled_slices_and_repetitions_are_left_out(tmp_path):
    write_series(tmp_path / "a", number=1)
    write_series(tmp_path / "a", number=1, start=50, change=lambda index, dataset: index in (1, 2))
    write_series(tmp_path / "b", number=2)
    write_series(tmp_path / "b", number=2, start=50)
    reasons = left_out(tmp_path)
    assert reasons[0] == "has doubled slices: several images at 2 of 6 places"
    assert reasons[1].startswith("has 2 images at every place")


def test_a_title_names_the_series_and_not_the_patient(tmp_path):
    write_series(tmp_path, description=f"FLAIR {NAME.split('^')[0].upper()} 19470523")
    volume, _ = read_one(tmp_path)
    assert volume.title == "FLAIR *** *** (series 4, 6 slices)"


def test_a_small_shift_that_files_round_is_no_tilt_and_no_gap(tmp_path):
    def rounded(index, dataset):
        dataset.ImagePositionPatient = [round(v + 0.004 * (-1) ** index, 2) for v in dataset.ImagePositionPatient]

    write_series(tmp_path, RAMP, change=rounded)
    volume, voxels = read_one(tmp_path)
    assert np.array_equal(voxels, RAMP)
    assert volume.grid.spacing == pytest.approx((3.0, 1.5, 1.25), abs=0.01)
    assert isinstance(volume.grid, Grid)
