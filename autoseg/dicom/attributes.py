"""Attributes of images that series are sorted and matched by, and frames with their place.

Names, dates of birth and numbers of patients are read for one purpose: to strike them out of a series' description.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoseg.core.errors import DataError
from autoseg.dicom.files import Source

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_FRAMES = 100_000
MAX_SIDE = 2**14  # rows or columns
TAGS = (
    0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080060, 0x0008103E, 0x00080020, 0x00080030,
    0x00100010, 0x00100020, 0x00100030,
    0x00180010, 0x00180020, 0x00180021, 0x00180023, 0x00180024, 0x00180050, 0x00180080, 0x00180081, 0x00180082,
    0x00180086, 0x00180088, 0x00181030, 0x00189087, 0x0019100C, 0x00190010, 0x00431039, 0x00430010, 0x20011003,
    0x20010010,
    0x0020000D, 0x0020000E, 0x00200011, 0x00200013, 0x00200032, 0x00200037, 0x00200052,
    0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280030, 0x00280100, 0x00280101, 0x00280102,
    0x00280103, 0x00281052, 0x00281053, 0x52009229, 0x52009230,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Properties of the sequence, as stated; None or empty where the file states none.

    Attributes:
        image_type: (0008,0008), or of a frame (0008,9007).
        scanning: scanning sequence: SE, IR, GR, EP.
        echo_ms, repetition_ms, inversion_ms: TE, TR, TI.
        b_value: s/mm2.
        contrast: whether a contrast agent is stated.
    """

    image_type: tuple[str, ...] = ()
    scanning: tuple[str, ...] = ()
    echo_ms: float | None = None
    repetition_ms: float | None = None
    inversion_ms: float | None = None
    b_value: float | None = None
    contrast: bool = False


@dataclass(frozen=True, kw_only=True)
class Series:
    """Identity of a series.

    Attributes:
        study, uid: UIDs of study and series.
        number: as the scanner counts; None where it states none.
        name: description, protocol and sequence name as stated, for matching only: it may name a person.
        title: description for people, with words of the patient's name, number and birth date struck out.
        date: of the study, to number several studies of one folder.
        reference: UID of the frame of reference.
    """

    study: str
    uid: str
    number: int | None
    name: str
    title: str
    date: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One image of a series and its place.

    Attributes:
        source: its file.
        index: of the frame in the file.
        uid: SOP instance.
        rows, columns: its size.
        position: world (x,y,z) LPS mm of the centre of the first pixel.
        along_row, along_column: unit vectors (x,y,z) in which the column index and the row index grow.
        spacing: mm between rows, and between columns.
        slope, intercept: stored value -> scanner units.
        thickness: mm, or None.
    """

    series: Series
    traits: Traits
    source: Source
    index: int
    uid: str
    rows: int
    columns: int
    position: tuple[float, float, float]
    along_row: tuple[float, float, float]
    along_column: tuple[float, float, float]
    spacing: tuple[float, float]
    slope: float = 1.0
    intercept: float = 0.0


def read_series(dataset: Dataset) -> Series:
    """Identity of the series that a file belongs to."""
    texts = [_text(dataset, key) for key in ("SeriesDescription", "ProtocolName", "SequenceName")]
    description = next((text for text in texts if text), "")
    number = _number(dataset.get("SeriesNumber"))
    return Series(
        study=_text(dataset, "StudyInstanceUID"),
        uid=_text(dataset, "SeriesInstanceUID"),
        number=None if number is None else int(number),
        name=" ".join(text for text in texts if text),
        title=_strike_out(dataset, description)[:64] or "no description",
        date=_text(dataset, "StudyDate") + _text(dataset, "StudyTime"),
        reference=_text(dataset, "FrameOfReferenceUID"),
    )


def list_frames(dataset: Dataset, source: Source) -> Iterator[Frame]:
    """All frames of an image.

    Raises:
        DataError: it is not an image with a place in the patient, or states what cannot be; the message is a clause
            without the file's name.
    """
    series, count = read_series(dataset), int(_number(dataset.get("NumberOfFrames")) or 1)
    rows, columns = (int(_number(dataset.get(key)) or 0) for key in ("Rows", "Columns"))
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE and 0 < count <= MAX_FRAMES):
        raise DataError(f"states {count} images of {rows}x{columns} pixels")
    if _number(dataset.get("SamplesPerPixel", 1)) != 1:
        raise DataError("is a colour picture")
    if "MOSAIC" in _words(dataset.get("ImageType")):
        raise DataError("is a mosaic of slices; convert it with dcm2niix")
    functional = "PerFrameFunctionalGroupsSequence" in dataset
    if count > 1 and not functional:
        raise DataError("has several frames without a place for each")
    groups = list(dataset.PerFrameFunctionalGroupsSequence) if functional else [None]
    if len(groups) != count:
        raise DataError(f"states {count} frames and places for {len(groups)}")
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), None)
    for index, group in enumerate(groups):
        levels = [level for level in (group, shared) if level is not None]
        yield _make_frame(dataset, levels, (series, source, index, rows, columns))


def _make_frame(
    dataset: Dataset, levels: Sequence[Dataset], known_facts: tuple[Series, Source, int, int, int]
) -> Frame:
    series, source, index, rows, columns = known_facts

    def read(macro: str, key: str) -> Any:
        for level in levels:
            for item in level.get(macro) or ():
                if item.get(key) is not None:
                    return item.get(key)
        return dataset.get(key)

    position = _vector(read("PlanePositionSequence", "ImagePositionPatient"), 3)
    axes = _vector(read("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    spacing = _vector(read("PixelMeasuresSequence", "PixelSpacing"), 2)
    if position is None or axes is None or spacing is None:
        raise DataError("states no position in the patient")
    row, column = axes[:3], axes[3:]
    lengths = [math.dist(axis, (0, 0, 0)) for axis in (row, column)]
    skew = sum(a * b for a, b in zip(row, column, strict=True))
    if max(abs(length - 1) for length in lengths) > 1e-2 or abs(skew) > 1e-2 or min(spacing) <= 0 or max(spacing) > 1e3:
        raise DataError("states an orientation or a spacing that cannot be")
    slope = _number(read("PixelValueTransformationSequence", "RescaleSlope"))
    intercept = _number(read("PixelValueTransformationSequence", "RescaleIntercept"))
    return Frame(
        series=series,
        traits=_read_traits(dataset, read),
        source=source,
        index=index,
        uid=_text(dataset, "SOPInstanceUID"),
        rows=rows,
        columns=columns,
        position=position,  # type: ignore[arg-type]
        along_row=tuple(v / lengths[0] for v in row),  # type: ignore[arg-type]
        along_column=tuple(v / lengths[1] for v in column),  # type: ignore[arg-type]
        spacing=spacing,  # type: ignore[arg-type]
        slope=1.0 if slope is None or slope == 0 else slope,
        intercept=intercept or 0.0,
    )


def _read_traits(dataset: Dataset, read: Any) -> Traits:
    agent = dataset.get("ContrastBolusAgent") or read("ContrastBolusUsageSequence", "ContrastBolusAgentNumber")
    frame_type = read("MRImageFrameTypeSequence", "FrameType")
    times = (
        _number(read("MREchoSequence", "EffectiveEchoTime") or dataset.get("EchoTime")),
        _number(read("MRTimingAndRelatedParametersSequence", "RepetitionTime")),
        _number(read("MRModifierSequence", "InversionTimes") or dataset.get("InversionTime")),
    )
    echo, repetition, inversion = (None if time is None else round(time, 1) for time in times)
    return Traits(
        image_type=_words(frame_type or dataset.get("ImageType")),
        scanning=_words(dataset.get("ScanningSequence")),
        echo_ms=echo or None,
        repetition_ms=repetition,
        inversion_ms=inversion or None,
        b_value=_read_b_value(dataset, read),
        contrast=bool(agent) and str(agent).strip().upper() not in ("NO", "NONE"),
    )


def _read_b_value(dataset: Dataset, read: Any) -> float | None:
    """The standard attribute, else those of Siemens, GE and Philips, else the sequence name (``ep_b1000t``)."""
    values = [read("MRDiffusionSequence", "DiffusionBValue")]
    for block, tag, owner in (
        (0x00190010, 0x0019100C, "SIEMENS"),
        (0x00430010, 0x00431039, "GEMS"),
        (0x20010010, 0x20011003, "PHILIPS"),
    ):
        if str(getattr(dataset.get(block), "value", "")).upper().startswith(owner):
            values.append(getattr(dataset.get(tag), "value", None))
    for value in values:
        first = value if isinstance(value, int | float | str | bytes) else next(iter(value or ()), None)
        if isinstance(first, bytes):
            first = first.split(b"\\")[0].decode("ascii", "replace").strip("\0 ")
        number = _number(first)
        if number is not None and number >= 0:
            return number % 1e5  # GE adds 1e9 to some
    match = re.search(r"_b(\d{1,5})", _text(dataset, "SequenceName"))
    return float(match[1]) if match else None


def _strike_out(dataset: Dataset, text: str) -> str:
    """A description without words of the patient's name, number and birth date, and without control characters."""
    stated = [_text(dataset, key) for key in ("PatientName", "PatientID", "PatientBirthDate")]
    words = {word for value in stated for word in re.split(r"[^\w]+|_", value) if len(word) >= 3}
    for word in sorted(words | {value for value in stated if len(value) >= 3}, key=len, reverse=True):
        text = re.sub(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", "***", text, flags=re.IGNORECASE)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _text(dataset: Dataset, key: str) -> str:
    value = dataset.get(key)
    return "" if value is None else str(value).strip("\0 ")


def _words(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else list(value or ())
    return tuple(str(word).upper() for word in values if str(word))


def _number(value: Any) -> float | None:
    """A finite number, the first where there are several."""
    if not isinstance(value, int | float | str) and value is not None:
        value = next(iter(value), None)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _vector(values: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
