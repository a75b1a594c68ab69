"""Presets: architecture, input, training and prediction of a network, with all their defaults and ranges."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Pixels = Annotated[int, Field(ge=16, le=16384)]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Network(_Closed):
    """The network before `width` is applied."""

    architecture: Literal["unet"] = Field("unet", description="A module of cellmill.models.")
    in_channels: Literal[1] = Field(1, description="Planes of the input: the preprocessed image.")
    base_channels: int = Field(
        32, ge=1, le=1024, description="Channels of the first level; each deeper level has twice as many."
    )
    levels: int = Field(
        4, ge=1, le=6, description="Poolings. Each doubles what a pixel sees: 4 see 204 px, 3 see 100 px."
    )
    norm: Literal["batch", "none"] = Field("batch", description="Normalisation after each convolution.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Probability that a feature is set to zero after each convolution."
    )
    out_channels: Literal[1] = Field(1, description="Planes of the output: the foreground.")


class Input(_Closed):
    """What the network sees of an image."""

    normalise: Literal["zscore", "none"] = Field(
        "zscore", description="zscore: mean 0, standard deviation 1 over each image, without its padding."
    )


class Loss(_Closed):
    """What the network is trained to make small."""

    name: Literal["bce", "dice", "bce_dice"] = Field(
        "bce",
        description="bce: binary cross-entropy, mean over the valid pixels. dice: one minus the Dice "
        "coefficient of the batch, for rare foreground. bce_dice: their sum.",
    )
    positive_weight: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Weight of foreground pixels in bce; above 1 finds more and predicts larger objects.",
    )


class Optimiser(_Closed):
    """How weights follow the gradient."""

    name: Literal["adam", "adamw", "sgd"] = Field("adam", description="Rule of the update.")
    learning_rate: float = Field(0.01, gt=0, le=10, description="Largest rate of the schedule.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Of sgd; the first beta of adam and adamw.")
    weight_decay: float = Field(
        0.0, ge=0, le=1, description="Pull towards zero: within the gradient for adam and sgd, beside it for adamw."
    )


class Schedule(_Closed):
    """How the learning rate changes."""

    name: Literal["none", "step", "cosine"] = Field(
        "step", description="step: times `factor` every `every_epochs`. cosine: to 0 over all epochs."
    )
    every_epochs: int = Field(10, ge=1, le=100000, description="Of step (epochs).")
    factor: float = Field(0.5, gt=0, le=1, description="Of step.")
    warmup_epochs: float = Field(
        0.0, ge=0, le=1000, description="The rate rises from 0 over these (epochs, also a fraction of one)."
    )


class Augmentation(_Closed):
    """Random changes of a patch; image and labels move together."""

    flip: bool = Field(False, description="Flip rows and columns, each with probability 0.5.")
    rotate_90: bool = Field(False, description="Turn by a multiple of 90 degrees; needs square patches.")
    affine_probability: Probability = Field(
        0.0, description="How often a patch is rotated, zoomed and shifted by the three settings below."
    )
    rotation_deg: float = Field(15.0, ge=0, le=180, description="Largest rotation to either side (degrees).")
    zoom: tuple[
        Annotated[float, Field(ge=0.25, le=4)],
        Annotated[float, Field(ge=0.25, le=4)],
    ] = Field((0.9, 1.1), description="Smallest and largest magnification.")
    translation: float = Field(0.05, ge=0, le=0.5, description="Largest shift to either side (fraction of the patch).")
    contrast: float = Field(
        0.0, ge=0, le=4, description="Values times 1/(1 + contrast) to 1 + contrast, about the image's mean."
    )
    brightness: float = Field(
        0.0, ge=0, le=4, description="Largest number added or taken away (standard deviations of the image)."
    )
    invert_probability: Probability = Field(
        0.0, description="How often bright and dark change places: for data with both kinds of contrast."
    )
    noise: float = Field(
        0.0, ge=0, le=4, description="Gaussian noise added to a patch (standard deviations of the image)."
    )

    @model_validator(mode="after")
    def _zoom_is_in_order(self) -> "Augmentation":
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(
                f"zoom: expected [smallest, largest], found [{self.zoom[0]:g}, {self.zoom[1]:g}]. Swap the two"
            )
        return self


class Train(_Closed):
    """The training of a network."""

    epochs: int = Field(50, ge=1, le=100000, description="Passes over the training images (epochs).")
    batch: int = Field(2, ge=1, le=4096, description="Patches in one step.")
    patch: tuple[Pixels, Pixels] = Field(
        (512, 512), description="Rows and columns of a patch (px), multiples of 2**levels."
    )
    patches_per_image: int = Field(
        1, ge=1, le=10000, description="Patches that an epoch draws from each training image."
    )
    sampling: Literal["uniform", "balanced"] = Field(
        "uniform",
        description="uniform: anywhere. balanced: half of the patches hold some foreground, where an image has any.",
    )
    loss: Loss = Field(default_factory=Loss, description="What is made small.")
    optimiser: Optimiser = Field(default_factory=Optimiser, description="How weights follow the gradient.")
    schedule: Schedule = Field(default_factory=Schedule, description="How the learning rate changes.")
    augmentation: Augmentation = Field(default_factory=Augmentation, description="Random changes of patches.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: faster on recent GPUs, two to three digits; the CPU always takes fp32."
    )
    select: Literal["best", "last"] = Field(
        "best", description="The epoch whose weights are kept: that of the lowest validation loss, or the last."
    )
    validation_images: Annotated[int, Field(ge=1)] | None = Field(
        None, description="At most so many validation images after each epoch, the same ones; left out: all."
    )


class Predict(_Closed):
    """Prediction of whole images in tiles; no result depends on it."""

    tile: tuple[Pixels, Pixels] = Field(
        (1024, 1024),
        description="Rows and columns (px) that are predicted at once; a halo is added where an image is "
        "larger. Smaller needs less memory and more time.",
    )
    batch: int = Field(1, ge=1, le=1024, description="Tiles that the network sees at once.")


class ModelPreset(_Closed):
    """A named system: one file of resources/models, or one with some fields changed."""

    title: str = Field(min_length=1, description="What the report calls it.")
    network: Network = Field(default_factory=Network, description="The architecture.")
    width: float = Field(
        1.0, gt=0, le=16, description="Multiplies the channels of every layer; time goes with its square."
    )
    input: Input = Field(default_factory=Input, description="What the network sees of an image.")
    train: Train = Field(default_factory=Train, description="Patches, loss, optimiser, schedule.")
    predict: Predict = Field(default_factory=Predict, description="Tiles of the prediction.")

    @model_validator(mode="after")
    def _parts_fit(self) -> "ModelPreset":
        stride, patch = 2**self.network.levels, self.train.patch
        mistakes = []
        if any(side % stride or side < 2 * stride for side in patch):
            near = [max(2, round(side / stride)) * stride for side in patch]
            mistakes.append(
                f"train.patch: expected multiples of {stride} px, at least {2 * stride}, for "
                f"{self.network.levels} levels, found {list(patch)}. Take {near}, or change network.levels"
            )
        if self.train.augmentation.rotate_90 and patch[0] != patch[1]:
            mistakes.append(
                f"train.augmentation.rotate_90: expected a square patch, found {list(patch)}. "
                "Set train.patch to a square or rotate_90 to false"
            )
        if self.train.schedule.warmup_epochs > self.train.epochs:
            mistakes.append(
                f"train.schedule.warmup_epochs: expected at most {self.train.epochs} epochs, "
                f"found {self.train.schedule.warmup_epochs:g}. Lower it, or raise train.epochs"
            )
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self
