"""``python -m autoseg.train`` is ``autoseg_train``, for launchers such as torchrun, which start a module."""

from autoseg.cli import train

if __name__ == "__main__":
    train()
