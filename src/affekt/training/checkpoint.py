"""A trained model in one self-contained safetensors file.

Weights are the tensors; everything else (system, features, normalizer, classes, temperature, provenance) is JSON in the
file's metadata, with a hash of it all. Loading executes nothing, and is strict: a flipped bit is an error, and so is a
missing, extra or misshapen tensor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from affekt.errors import NO_FILE, AffektError, CheckpointError, ConfigError
from affekt.features.frontends import EncoderStates
from affekt.features.log_mel import Normalizer
from affekt.losses import Loss
from affekt.nn import NetworkConfig
from affekt.nn.encoder import WhisperEncoder, from_tensors
from affekt.runtime.atomic_files import write_bytes
from affekt.training.systems import System, from_system_dict, read_front_end

FORMAT = "affekt-checkpoint-1"
GROUPS = ("network", "loss", "front_end")
"""First part of the tensors' names: what they belong to."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with everything needed to use it.

    Attributes:
        system: network, loss and features.
        classes: class names in the order of the scores.
        normalizer: of the features, from the training part.
        weights: the network's tensors.
        loss_weights: the loss's own tensors; most have none.
        temperature: what logits are divided by, fitted on validation data.
        provenance: where it comes from: corpora, protocol, seeds, versions, license.
        front_end: tensors of a frozen encoder that computes the features; most front ends have none. Left out, they
            are read from the encoder's folder when the file is written.
    """

    system: System
    classes: tuple[str, ...]
    normalizer: Normalizer
    weights: Mapping[str, Tensor]
    loss_weights: Mapping[str, Tensor] = field(default_factory=dict)
    temperature: float = 1.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    front_end: Mapping[str, Tensor] = field(default_factory=dict)

    def encoder(self) -> WhisperEncoder:
        """The frozen encoder of a system on its states.

        Raises:
            CheckpointError: tensors of another encoder than the system's features describe.
            ConfigError: none in the checkpoint and none to read, or another kind of features.
        """
        features = self.system.features
        if not isinstance(features, EncoderStates):
            got = f"features of {type(features).__name__}"
            raise ConfigError("encoder of a checkpoint", got=got, expected="an encoder's states")
        if not self.front_end:
            return features.encoder()
        try:
            return from_tensors(self.front_end)
        except (RuntimeError, KeyError, IndexError) as error:
            got = " ".join(str(error).split())
            raise CheckpointError("checkpoint encoder", got=got, expected="those of Whisper's encoder") from error

    def _front_end(self) -> Mapping[str, Tensor]:
        """The encoder's tensors, where the system has one."""
        return self.encoder().state_dict() if isinstance(self.system.features, EncoderStates) else self.front_end

    def build(self) -> tuple[nn.Module, Loss]:
        """The network and its loss with these weights, in evaluation mode.

        Raises:
            CheckpointError: the weights do not fit the network.
        """
        try:
            if isinstance(self.system.network, str | NetworkConfig) and isinstance(self.system.loss, str):
                with torch.device("meta"):  # no memory, whatever a forged description claims
                    self._filled(assign=True)
            network, loss = self._filled()
        except (RuntimeError, TypeError) as error:  # TypeError: sizes beyond all numbers
            detail = " ".join(str(error).split())
            raise CheckpointError("checkpoint weights", got=detail, expected="those of its own network") from error
        return network.eval(), loss.eval()

    def _filled(self, assign: bool = False) -> tuple[nn.Module, Loss]:
        network, loss = self.system.build(len(self.classes), counts=[1] * len(self.classes))
        network.load_state_dict(dict(self.weights), strict=True, assign=assign)
        loss.load_state_dict(dict(self.loss_weights), strict=True, assign=assign)
        return network, loss

    def save(self, path: str | Path) -> None:
        """Write the file atomically; equal checkpoints give equal bytes."""
        tensors = {
            f"{group}.{name}": tensor.detach().cpu().contiguous()
            for group, part in zip(GROUPS, (self.weights, self.loss_weights, self._front_end()), strict=True)
            for name, tensor in part.items()
        }
        card = {
            "format": FORMAT,
            "system": self.system.to_dict(),
            "classes": list(self.classes),
            "normalizer": asdict(self.normalizer),
            "temperature": self.temperature,
            "provenance": dict(self.provenance),
        }
        card["sha256"] = _digest(card, tensors)
        metadata = {"affekt": json.dumps(card, sort_keys=True)}  # one key: safetensors writes several in random order
        write_bytes(path, safetensors.torch.save(tensors, metadata))

    @classmethod
    def load(cls, path: str | Path, system: System | None = None) -> Checkpoint:
        """Read a checkpoint.

        Args:
            path: the file.
            system: the system it was trained with, if its network or loss is a user-defined class, which cannot be
                restored without executing code.

        Raises:
            CheckpointError: not a checkpoint, damaged, or of a system that has to be passed in.
        """
        path = Path(path)
        card, tensors = _read(path)
        try:
            system = system or from_system_dict(card["system"])
            same_features = _describes(card["system"]["features"], system)
            normalizer = Normalizer(tuple(card["normalizer"]["mean"]), tuple(card["normalizer"]["std"]))
            classes, temperature = tuple(map(str, card["classes"])), float(card["temperature"])
            provenance = dict(card["provenance"])
        except (KeyError, TypeError, ValueError, AttributeError, AffektError) as error:
            remedy = "pass the System that it was trained with, if that has user-defined classes"
            raise _unusable(path, f"a description that does not hold: {error}", remedy) from error
        if not same_features:
            stated = card["system"]["features"]
            raise _unusable(path, f"features {stated}", f"pass a system with these, not {system.features}")
        weights, loss_weights, front_end = (
            {name.removeprefix(f"{group}."): tensor for name, tensor in tensors.items() if name.startswith(f"{group}.")}
            for group in GROUPS
        )
        return cls(system, classes, normalizer, weights, loss_weights, temperature, provenance, front_end)


def _describes(features: dict[str, Any], system: System) -> bool:
    """Whether these are the system's features, word by word or, where settings are left out, by their defaults."""
    if features == json.loads(json.dumps(system.to_dict()["features"])):
        return True
    return read_front_end(features, where="features") == system.features


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(
            str(path), got=NO_FILE, expected="a checkpoint", remedy="`affekt train` writes checkpoints"
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            card = json.loads((file.metadata() or {})["affekt"])
        if card["format"] != FORMAT:
            raise _unusable(path, f"format {card['format']!r}")
        expected = card.pop("sha256")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _unusable(path, f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    if _digest(card, tensors) != expected:
        raise _unusable(path, "content that is not what was written")
    if not all(name.startswith(tuple(f"{group}." for group in GROUPS)) for name in tensors):
        raise _unusable(path, "tensors that belong to nothing")
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise _unusable(path, "weights that are not finite")
    return card, tensors


def _digest(card: Mapping[str, Any], tensors: dict[str, Tensor]) -> str:
    described = json.dumps(card, sort_keys=True).encode()
    return hashlib.sha256(described + safetensors.torch.save(tensors)).hexdigest()


def _unusable(path: Path, got: str, remedy: str = "") -> CheckpointError:
    return CheckpointError(f"checkpoint {path}", got=got, expected=f"a whole file of format {FORMAT}", remedy=remedy)
