"""An experiment: train every fold of every configuration, compare them out of fold, and finish the best.

``train_all``, ``compare`` and ``finish`` are its three steps; ``executor`` decides where they run. Nothing is imported
here, because processes that score one case need no torch.
"""
