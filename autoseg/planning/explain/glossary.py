"""The page's words, in plain ones."""

from __future__ import annotations

from autoseg.planning.explain.page import entry, head

_WORDS = {
    "Augmentation": "random changes of a patch (turned, stretched, mirrored, noisier) so that the network does not "
    "learn the training scans by heart",
    "Batch": "the patches that the network sees in one step",
    "Cascade": "a network that sees, beside the scan, what a network for coarser volumes made of it",
    "Case": "one scan session of one patient, with all its channels",
    "Channel": "one kind of image of a case, such as FLAIR or DWI",
    "Configuration": "one complete way to train: on slices (2d), on volumes (3d), on coarser volumes (3d_lowres)",
    "Dice": "how well a mask overlaps the label: twice what they share, divided by both together; 1 is the same, 0 is "
    "apart",
    "Epoch": "a fixed number of steps, after which progress is noted",
    "Features": "how many patterns each stage of the network looks for; more need more memory",
    "Fold": "one of the ways to split the cases into those trained on and those held out",
    "GFLOP": "a billion calculations",
    "Intensities": "the scan's grey values; zscore shifts and scales them to mean 0 and spread 1 in each scan",
    "Lesion": "one connected part of a label",
    "Loss": "the number that training makes smaller: how far the network's answer is from the label",
    "Optimiser": "how each step changes the network; the learning rate is how much",
    "Patch": "the piece of a scan that the network sees at once while training",
    "Preset": "the table of numbers that planning began with",
    "Resampling": "bringing every scan to the same voxel spacing; masks are brought back to the scan's own",
    "Voxel spacing": "how far apart the scan's points lie, in mm along each axis",
    "Step": "one batch seen, and the network changed by it",
    "Tile": "the piece that it sees at once while predicting; tiles overlap and are averaged",
}


def explain_words() -> list[str]:
    """Every term that a clinician need not know."""
    return [*head("Words"), *(line for word, meaning in sorted(_WORDS.items()) for line in entry(word, meaning))]
