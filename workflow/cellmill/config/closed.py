"""Base of all config sections."""

from pydantic import BaseModel, ConfigDict


class Closed(BaseModel):
    """Config section that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid")
