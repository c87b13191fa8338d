"""Glossary of the page."""

from __future__ import annotations

from autoseg.planning.explain.page import entry, head

_WORDS = {
    "Activation checkpointing": "computing parts of the network again instead of storing them; less memory, more time",
    "Augmentation": "random changes of a patch (rotation, scaling, mirroring, noise), so that the network does not "
    "memorise the training scans",
    "Batch": "the patches that the network processes in one step",
    "Cascade": "a network that sees the scan and the prediction of another network on coarser volumes",
    "Case": "one scan session of one patient, with all its channels",
    "Channel": "one kind of image of a case, such as FLAIR or DWI",
    "Configuration": "one complete way to train: on slices (2d), on volumes (3d) or on coarser volumes (3d_lowres)",
    "Convolution outputs": "numbers that the network computes for one sample; training memory grows with them",
    "Deep supervision": "training outputs of the network's coarser stages as well, with smaller weights",
    "Dice": "overlap of a mask with the label: twice the shared volume divided by the sum of both; 1 is identical, 0 "
    "is no overlap",
    "Epoch": "a fixed number of steps, after which progress is recorded",
    "Features": "number of patterns that a stage of the network detects; more need more memory",
    "Fold": "one of several splits of the cases into those trained on and those held out",
    "GFLOP": "a billion arithmetic operations",
    "Gradient accumulation": "processing a batch in parts and adding up their gradients; less memory, more time",
    "Intensities": "grey values of the scan; zscore shifts and scales each scan to mean 0 and standard deviation 1",
    "Lesion": "one connected part of a label",
    "Loss": "the number that training minimises: the difference between the network's output and the label",
    "Optimiser": "the rule by which a step changes the network; the learning rate is the size of the change",
    "Patch": "the part of a scan that the network sees at once during training",
    "Preset": "the table of numbers that planning starts from",
    "Resampling": "interpolating every scan to the same voxel spacing; masks are returned on the original grid",
    "Voxel spacing": "distance between the scan's voxels along each axis, in mm",
    "Step": "one batch processed, and the network updated by it",
    "Tile": "the part of a scan that the network sees at once during prediction; tiles overlap and are averaged",
}


def explain_words() -> list[str]:
    """Every technical term of the page."""
    return [*head("Words"), *(line for word, meaning in sorted(_WORDS.items()) for line in entry(word, meaning))]
