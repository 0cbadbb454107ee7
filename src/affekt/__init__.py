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
    from affekt.data.corpora import prepare
    from affekt.data.labels import LABEL_SETS, LabelSet
    from affekt.data.manifest import Manifest
    from affekt.errors import AffektError
    from affekt.experiments.train_model import train_model
    from affekt.experiments.workers import run_experiment
    from affekt.recognition.recognizer import Recognizer
    from affekt.report import write_report
    from affekt.results import Results
    from affekt.training.systems import System, resolve

_HOMES = {
    "AffektError": "errors",
    "LABEL_SETS": "data.labels",
    "LabelSet": "data.labels",
    "Manifest": "data.manifest",
    "Recognizer": "recognition.recognizer",
    "Results": "results",
    "System": "training.systems",
    "prepare": "data.corpora",
    "resolve": "training.systems",
    "run_experiment": "experiments.workers",
    "train_model": "experiments.train_model",
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
