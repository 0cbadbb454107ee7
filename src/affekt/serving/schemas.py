"""What answers look like, for the OpenAPI description."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class FaultAnswer(BaseModel):
    """One thing that is wrong."""

    what: str
    got: str
    expected: str
    remedy: str


class Problem(FaultAnswer):
    """Why a request was refused."""

    also: list[FaultAnswer] = Field(description="What else is wrong with it")


class PredictionAnswer(BaseModel):
    """The emotion of one stretch of a recording."""

    source: str
    start_seconds: float
    end_seconds: float
    label: str = Field(description="The most probable class, or `no speech`")
    confidence: float = Field(description="Its probability")
    unsure: bool = Field(description="The confidence is below the threshold: do not rely on the label")
    probabilities: dict[str, float] = Field(description="Every class; calibrated, they sum to 1")
    truncated: bool = Field(description="With `first`: the recording goes on past the model's clip")
    reason: str | None = Field(
        None, description="Why it is unsure: no speech, unlike the training speech or low confidence"
    )
    speech: float | None = Field(None, description="Probability that somebody speaks, where the model estimates it")
    model: str = Field("", description="Name, version and content hash of the model")
    channel: str | None = Field(None, description="The channel that was heard; null: the mean of all")
    adapted: str | None = Field(None, description="What was assumed about the speaker")


class WindowAnswer(BaseModel):
    """What was heard at a time."""

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
    files: dict[str, str] = Field(description="The formats that were asked for in `include`")


class ModelAnswer(BaseModel):
    """The model's card, and what this server takes."""

    card: dict[str, Any]
    limits: dict[str, float]


UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "No room for more work: come again after Retry-After seconds"}
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "No recording, or a broken form"},
    401: {"model": Problem, "description": "The server asks for a token"},
    403: {"model": Problem, "description": "A page of another site"},
    408: {"model": Problem, "description": "The body came too slowly"},
    413: {"model": Problem, "description": "The body is too large"},
    421: {"model": Problem, "description": "Asked under a name that is not this server's"},
    422: {"model": Problem, "description": "A recording or an option that cannot be used"},
    429: {"model": Problem, "description": "Too much at a time: come again after Retry-After seconds"},
    503: {"model": Problem, "description": "No room for more work: come again after Retry-After seconds"},
}
