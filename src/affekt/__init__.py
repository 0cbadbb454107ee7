"""Speech emotion recognition: recognize recordings, train systems, compare them honestly.

Recognize (the core install: no torch, no pandas):

>>> import affekt
>>> recognizer = affekt.Recognizer.load()
>>> recognizer.labels
('angry', 'happy', 'neutral', 'sad')
>>> prediction = recognizer.predict("call.wav")  # doctest: +SKIP
>>> prediction.label, prediction.confidence, prediction.unsure  # doctest: +SKIP
('happy', 0.69, False)

Research (the extra `train`): `prepare` reads a corpus release into a `Manifest`, `make_folds` splits it,
`run_experiment` trains each `System` on every fold, and `write_report` shows the `Results`. `train_model` trains one
model for use, and `evaluate` measures a model on a manifest.

Every name is imported when it is first used, so that `import affekt` is fast. Names that need an extra that is not
installed are not listed by `dir(affekt)`.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # that of `typing`, which takes longer to import than all else here

if TYPE_CHECKING:
    from affekt.data.corpora import prepare
    from affekt.data.labels import LABEL_SETS, LabelSet
    from affekt.data.manifest import Manifest
    from affekt.data.protocols import make_folds
    from affekt.errors import AffektError
    from affekt.experiments.train_model import train_model
    from affekt.experiments.workers import run_experiment
    from affekt.losses import Loss
    from affekt.nn import NetworkConfig
    from affekt.recognition.evaluation import evaluate
    from affekt.recognition.prediction import Prediction
    from affekt.recognition.recognizer import Recognizer
    from affekt.recognition.timeline import Timeline
    from affekt.report import write_report
    from affekt.results import Results
    from affekt.training.recipes import Recipe
    from affekt.training.systems import System, resolve
    from affekt.training.train_config import TrainConfig

_CORE = {
    "AffektError": "errors",
    "LABEL_SETS": "data.labels",
    "LabelSet": "data.labels",
    "Prediction": "recognition.prediction",
    "Recognizer": "recognition.recognizer",
    "Timeline": "recognition.timeline",
    "TrainConfig": "training.train_config",
}
_TRAIN = {
    "Loss": "losses",
    "Manifest": "data.manifest",
    "NetworkConfig": "nn",
    "Recipe": "training.recipes",
    "Results": "results",
    "System": "training.systems",
    "evaluate": "recognition.evaluation",
    "make_folds": "data.protocols",
    "prepare": "data.corpora",
    "resolve": "training.systems",
    "run_experiment": "experiments.workers",
    "train_model": "experiments.train_model",
    "write_report": "report",
}
_MODULES = _CORE | _TRAIN
"""Public name -> the module that defines it."""

__all__ = [
    "LABEL_SETS",
    "AffektError",
    "LabelSet",
    "Loss",
    "Manifest",
    "NetworkConfig",
    "Prediction",
    "Recipe",
    "Recognizer",
    "Results",
    "System",
    "Timeline",
    "TrainConfig",
    "__version__",
    "evaluate",
    "make_folds",
    "prepare",
    "resolve",
    "run_experiment",
    "train_model",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'affekt' has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"affekt.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if name in _CORE:
            raise
        message = f"{error.name} is not installed; affekt.{name} needs it: pip install 'affekt[train]'"
        raise ModuleNotFoundError(message, name=error.name) from error


def __dir__() -> list[str]:
    from importlib.util import find_spec
    from types import ModuleType

    installed = _MODULES if find_spec("torch") and find_spec("pandas") else _CORE
    loaded = (name for name, value in globals().items() if isinstance(value, ModuleType))
    return sorted({*installed, *loaded, *(name for name in globals() if name.startswith("__"))})
