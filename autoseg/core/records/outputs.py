"""Label value of each network output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoseg.core.records.base import Record


class Outputs(Record):
    """The channels a network predicts.

    Attributes:
        names: of each channel, in order.
        values: label value painted for each channel.
        overlap: channels are regions that may overlap (sigmoid), not classes that exclude each other (softmax).
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    overlap: bool

    @classmethod
    def of(cls, labels: Mapping[str, int], regions: Mapping[str, Sequence[int]], ignore_label: int | None) -> Outputs:
        """One channel per region when there are regions, else one per class, background first.

        A region is painted with the one value it holds that no later region does: whole tumour {1,2,3}, core {2,3},
        enhancing {3} are painted 1, 2, 3 in that order.

        Raises:
            ValueError: a region has no value of its own, so that it could not be painted back.
        """
        if not regions:
            classes = sorted((value, name) for name, value in labels.items() if value != ignore_label)
            return cls(names=tuple(n for _, n in classes), values=tuple(v for v, _ in classes), overlap=False)
        values = []
        members = list(regions.values())
        for number, (name, region_values) in enumerate(regions.items()):
            later = {value for region in members[number + 1 :] for value in region}
            exclusive = [value for value in region_values if value not in later]
            if not exclusive:
                raise ValueError(f"region '{name}' {tuple(region_values)} has no value that later regions do not hold")
            values.append(exclusive[0])
        return cls(names=tuple(regions), values=tuple(values), overlap=True)
