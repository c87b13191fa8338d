"""The commands as functions: open the store, walk the cases, call the stages, write. The only wiring.

One file per command; each is imported only when its command runs, so that ``--help`` stays quick.
"""
