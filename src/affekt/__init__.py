"""affekt: speech emotion recognition with a declared protocol.

The public names are imported when they are first used, so that `import affekt` costs nothing, and recognition needs
neither torch nor pandas:

>>> from affekt import LABEL_SETS
>>> LABEL_SETS["iemocap4"].classes
('angry', 'happy', 'neutral', 'sad')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from affekt.corpora import prepare
    from affekt.errors import AffektError
    from affekt.inference import Recognizer
    from affekt.labels import LABEL_SETS, LabelSet
    from affekt.manifest import Manifest
    from affekt.model import train_model
    from affekt.report import write_report
    from affekt.results import Results
    from affekt.systems import System, resolve
    from affekt.workers import run_experiment

_HOMES = {
    "AffektError": "errors",
    "LABEL_SETS": "labels",
    "LabelSet": "labels",
    "Manifest": "manifest",
    "Recognizer": "inference",
    "Results": "results",
    "System": "systems",
    "prepare": "corpora",
    "resolve": "systems",
    "run_experiment": "workers",
    "train_model": "model",
    "write_report": "report",
}

__all__ = [
    "LABEL_SETS",
    "AffektError",
    "LabelSet",
    "Manifest",
    "Recognizer",
    "Results",
    "System",
    "__version__",
    "prepare",
    "resolve",
    "run_experiment",
    "train_model",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'affekt' has no attribute {name!r}")
    return getattr(import_module(f"affekt.{_HOMES[name]}"), name)
