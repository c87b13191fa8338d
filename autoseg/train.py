"""``python -m autoseg.train`` is ``autoseg train``, for launchers that start a module; imported, it is the function."""

import sys

if __name__ == "__main__":
    from autoseg.cli import train

    train()
else:  # else this module would take the place of the function in the package
    from autoseg.api.training import train as function

    sys.modules[__name__] = function  # type: ignore[assignment]
