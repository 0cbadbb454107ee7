"""Schemas and examples of the answers, for the OpenAPI description."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import BaseModel, Field

Responses: TypeAlias = dict[int | str, dict[str, Any]]


class FaultAnswer(BaseModel):
    """One fault of a request."""

    what: str
    got: str
    expected: str
    remedy: str


class Problem(FaultAnswer):
    """The faults of a request that was refused."""

    also: list[FaultAnswer] = Field(description="Further faults")


class PredictionAnswer(BaseModel):
    """The emotion of a recording or of a part of it."""

    source: str
    start_seconds: float
    end_seconds: float
    label: str = Field(description="The most probable class, or `no speech`")
    confidence: float = Field(description="Its probability")
    unsure: bool = Field(description="Do not rely on the label, for the reason given")
    probabilities: dict[str, float] = Field(description="Every class; calibrated, they sum to 1")
    truncated: bool = Field(description="With `first`: the recording goes on past the model's clip")
    reason: str | None = Field(
        None, description="Why it is unsure: no speech, silence, unlike the training speech or low confidence"
    )
    speech: float | None = Field(None, description="Probability that somebody speaks, where the model estimates it")
    model: str = Field("", description="Name, version and content hash of the model")
    channel: str | None = Field(None, description="The channel that was heard; null: the mean of all")
    adapted: str | None = Field(None, description="What was assumed about the speaker")
    notes: list[str] = Field([], description="Remarks about the recording, such as a broken-off end")


class WindowAnswer(BaseModel):
    """One window of a timeline."""

    start_seconds: float
    end_seconds: float
    probabilities: dict[str, float]


class EnvelopeAnswer(BaseModel):
    """The waveform's outline."""

    starts_seconds: list[float]
    peaks: list[float] = Field(description="Relative to the loudest")


class TimelineAnswer(BaseModel):
    """Emotion over time."""

    source: str
    duration_seconds: float
    labels: list[str]
    config: dict[str, Any]
    overall: PredictionAnswer = Field(description="The answer for the whole recording, as `/v1/predict` gives it")
    seconds: dict[str, float] = Field(description="How long each label lasts")
    segments: list[PredictionAnswer] = Field(description="Stretches of speech with one label each")
    windows: list[WindowAnswer]
    envelope: EnvelopeAnswer | None = None
    files: dict[str, str] = Field(description="The formats requested by `include`")
    notes: list[str] = Field([], description="Remarks about the recording, such as a broken-off end")


class ModelAnswer(BaseModel):
    """The model card and the limits of this server."""

    model: str = Field(description="Name, version and content hash of the model")
    card: dict[str, Any]
    limits: dict[str, float]


EXAMPLE_MODEL = "bundled 0.2.0 sha256:3f1c0a9b27de"
EXAMPLE_PREDICTION: dict[str, Any] = {
    "source": "call.wav",
    "start_seconds": 0.0,
    "end_seconds": 4.2,
    "label": "angry",
    "confidence": 0.83,
    "unsure": False,
    "probabilities": {"angry": 0.83, "happy": 0.09, "neutral": 0.05, "sad": 0.03},
    "truncated": False,
    "reason": None,
    "speech": 0.99,
    "model": EXAMPLE_MODEL,
}
EXAMPLE_UNSURE = EXAMPLE_PREDICTION | {
    "label": "sad",
    "confidence": 0.41,
    "unsure": True,
    "probabilities": {"angry": 0.12, "happy": 0.08, "neutral": 0.39, "sad": 0.41},
    "reason": "low confidence",
}
EXAMPLE_TIMELINE: dict[str, Any] = {
    "source": "call.wav",
    "duration_seconds": 9.0,
    "labels": ["angry", "happy", "neutral", "sad"],
    "config": {"window_seconds": 3.0, "hop_seconds": 1.0, "activity": "energy"},
    "overall": EXAMPLE_PREDICTION | {"end_seconds": 9.0},
    "seconds": {"angry": 4.2, "happy": 0.0, "neutral": 0.0, "sad": 2.8},
    "segments": [EXAMPLE_PREDICTION, EXAMPLE_UNSURE | {"start_seconds": 5.4, "end_seconds": 8.2}],
    "windows": [{"start_seconds": 0.0, "end_seconds": 3.0, "probabilities": EXAMPLE_PREDICTION["probabilities"]}],
    "files": {},
}
EXAMPLE_LIMITS = {
    "body_bytes": 67108864,
    "timeline_seconds": 3600.0,
    "predictions": 128,
    "timelines": 16,
    "streams": 16,
}
EXAMPLE_CARD = {
    "labels": ["angry", "happy", "neutral", "sad"],
    "sample_rate_hz": 16000,
    "clip_seconds": 7.5,
    "unsure_below": 0.5,
    "version": "0.2.0",
}


def _refusal(status: int, description: str, *fault: str) -> Responses:
    """One error status with an example of its body: what, got, expected, remedy."""
    example: dict[str, Any] = dict(zip(("what", "got", "expected", "remedy"), fault, strict=True)) | {"also": []}
    content = {"application/json": {"example": example}}
    return {status: {"model": Problem, "description": description, "content": content}}


def _json(*examples: tuple[str, dict[str, Any]]) -> Responses:
    """The successful answer with its examples by name."""
    named = {name.replace(" ", "-"): {"summary": name, "value": value} for name, value in examples}
    return {200: {"content": {"application/json": {"examples": named}}}}


UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "baseline": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "maxItems": 3,
                            "description": "Recordings of the same speaker when calm, to adapt the answer",
                        },
                    },
                }
            },
        },
    }
}
NO_ROOM = "No capacity: retry after the seconds in Retry-After"
NOT_READY = _refusal(503, NO_ROOM, "predictions", "128 queued or running", "fewer than 128", "retry after 2 s")
REFUSALS: Responses = {
    **_refusal(400, "No recording, or a broken form", "form", "no file", "a form with one file", "curl -F file=@a.wav"),
    **_refusal(401, "No valid token", "authorization", "no token", "Authorization: Bearer <token>", "ask the operator"),
    **_refusal(403, "A page of another site", "origin", "'https://a.example'", "the server's own page", "--origins"),
    **_refusal(408, "The body arrived too slowly", "body", "not all of it within 120 s", "a recording", "send faster"),
    **_refusal(413, "The body is too large", "body", "70000000 bytes", "at most 67108864 bytes", "compress it"),
    **_refusal(421, "Not a name of this server", "host", "'a.example'", "one of localhost", "--hosts"),
    **_refusal(422, "An unusable recording or option", "recording", "50 ms", "at least 100 ms", ""),
    **_refusal(429, NO_ROOM, "predictions", "128 queued or running", "fewer than 128", "retry after 2 s"),
    **NOT_READY,
}
PREDICTION: Responses = REFUSALS | _json(("sure", EXAMPLE_PREDICTION), ("unsure", EXAMPLE_UNSURE))
TIMELINE: Responses = REFUSALS | _json(("two segments", EXAMPLE_TIMELINE))
MODEL: Responses = _json(("bundled model", {"model": EXAMPLE_MODEL, "card": EXAMPLE_CARD, "limits": EXAMPLE_LIMITS}))
