"""Parts of ``autoseg_verify``: each runs the real commands and functions on small data of its own."""
