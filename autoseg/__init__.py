"""autoseg: self-configuring segmentation of brain lesions in MRI."""

__version__ = "0.1.0"
