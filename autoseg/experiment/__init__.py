"""``autoseg_run``: every fold of every configuration, the choice among them, and what is made of the winner.

Nothing is imported here: processes that study one case need no torch.
"""
