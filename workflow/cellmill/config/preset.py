"""Preset: network, input, training and prediction of a named system."""

from typing import Any

from pydantic import Field, model_validator

from cellmill.config.classical import Classical
from cellmill.config.closed import Closed
from cellmill.config.consistency import contradictions_of
from cellmill.config.networks import Network, UNet
from cellmill.config.training import Input, Predict, Train


class ModelPreset(Closed):
    """Preset of a model: a file of resources/models, possibly with some fields overridden."""

    title: str = Field(min_length=1, description="Name in the report.")
    cite: str | None = Field(None, description="Source of the system, such as a publication.")
    network: Network = Field(default_factory=UNet, description="Architecture of the network.")
    width: float = Field(
        1.0, gt=0, le=16, description="Factor for the number of channels of every layer; time grows with its square."
    )
    start: str | None = Field(
        None,
        description="Shipped model whose weights the training starts from, if it finds the foreground of the training "
        "images already: a mean Dice coefficient of 0.7 or more. Not with another network, and not with `init_from`.",
    )
    input: Input = Field(default_factory=Input, description="Input of the network.")
    train: Train = Field(default_factory=Train, description="Patches, loss, optimiser and schedule.")
    predict: Predict = Field(default_factory=Predict, description="Prediction in tiles.")

    @model_validator(mode="before")
    @classmethod
    def _unet_is_meant(cls, preset: Any) -> Any:
        # A network section without an architecture is a U-Net, but pydantic needs the key to choose the model.
        if isinstance(preset, dict) and isinstance(preset.get("network"), dict):
            return {**preset, "network": {"architecture": "unet", **preset["network"]}}
        return preset

    @model_validator(mode="after")
    def _parts_fit(self) -> "ModelPreset":
        if isinstance(self.network, Classical):
            unused = sorted(self.model_fields_set & {"width", "start", "input", "train", "predict"})
            if unused:
                raise ValueError(
                    f"expected only network for a model without a network, found {' and '.join(unused)} as well. "
                    f"Remove {' and '.join(unused)}, or use another preset"
                )
            return self
        if mistakes := contradictions_of(
            network=self.network, input=self.input, train=self.train, predict=self.predict
        ):
            raise ValueError("; ".join(mistakes))
        return self
