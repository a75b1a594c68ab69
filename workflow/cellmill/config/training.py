"""Presets: architecture, input, training and prediction of a network, with all their defaults and ranges."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cellmill.config.augmentation import Augmentation
from cellmill.config.closed import Closed

Pixels = Annotated[int, Field(ge=16, le=16384)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Input(Closed):
    """Input of the network: normalisation, frames, class planes and warm-up."""

    normalise: Literal["zscore", "none"] = Field(
        "zscore", description="zscore: mean 0, standard deviation 1 over each image, without its padding."
    )
    frames: int = Field(
        1,
        ge=1,
        le=99,
        description="Frames that are seen at once, an odd number: the image and its neighbours of the same sequence. "
        "Where a neighbour is missing the nearest one stands for it.",
    )
    class_planes: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Values of class_column: the network gets a plane for each, 1 for the class of the image, 0 else.",
    )
    class_at_prediction: Literal["average", "oracle"] = Field(
        "average",
        description="average: the mean of the predictions for each class, since that of a new image is not known. "
        "oracle: the class that the table gives, which the report says.",
    )

    warmup: int = Field(
        4,
        ge=0,
        le=1000,
        description="Of recurrent networks: so many first frames are played backwards before a prediction begins, so "
        "that the first frame is not seen with an empty memory.",
    )

    @model_validator(mode="after")
    def _frames_have_a_middle(self) -> "Input":
        if self.frames % 2 == 0:
            raise ValueError(
                f"frames: expected an odd number, so that the image is in the middle, found {self.frames}. "
                f"Take {self.frames - 1} or {self.frames + 1}"
            )
        if len(set(self.class_planes)) != len(self.class_planes):
            raise ValueError(f"class_planes: expected different classes, found {self.class_planes}. Leave one out")
        return self


class DistanceWeight(Closed):
    """Extra weight between cells that nearly touch: weight * exp(-(d1 + d2)^2 / (factor * sigma^2))."""

    weight: float = Field(10.0, gt=0, le=1000, description="Added where both distances are 0.")
    sigma_px: float = Field(5.0, gt=0, le=100, description="How quickly it falls with the distances (px).")
    factor: Literal[1, 2] = Field(1, description="1: as in paper 2. 2: as in Ronneberger et al. 2015.")
    reading: Literal["to_border", "to_cell"] = Field(
        "to_border", description="Distance to the cell's outermost pixels, or to the cell (0 inside of it)."
    )
    inside: bool = Field(False, description="Whether pixels of cells get it too.")


class Loss(Closed):
    """Loss function of the training."""

    name: Literal["bce", "dice", "bce_dice", "focal", "ce", "mse", "distance", "flow"] = Field(
        "bce",
        description="bce: binary cross-entropy, mean over the valid pixels. dice: one minus the Dice "
        "coefficient of the batch, for rare foreground. bce_dice: their sum. focal: bce with less weight on what is "
        "right already. ce: cross-entropy of the classes. mse: half the mean square (flow_gray). distance, flow: half "
        "the mean square of the map, and bce of the foreground.",
    )
    positive_weight: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Weight of foreground pixels in bce and focal; above 1 finds more and predicts larger objects.",
    )
    class_weights: list[Annotated[float, Field(ge=0, le=1000)]] | None = Field(
        None, description="Of ce: a weight for each class, background first; left out: 1."
    )
    normaliser: Literal["pixels", "weights"] = Field(
        "pixels", description="Of ce: what the weighted sum is divided by, the number of pixels or the sum of weights."
    )
    gamma: float = Field(2.0, ge=0, le=10, description="Of focal: 0 is bce.")
    distance: DistanceWeight | None = Field(None, description="Of ce: more weight between cells that nearly touch.")


class Optimiser(Closed):
    """Optimiser, with weight decay and gradient clipping."""

    name: Literal["adam", "adamw", "sgd", "adagrad", "rmsprop"] = Field("adam", description="Rule of the update.")
    learning_rate: float = Field(0.01, gt=0, le=10, description="Largest rate of the schedule.")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="Of sgd and rmsprop; the first beta of adam and adamw; adagrad has none."
    )
    weight_decay: float = Field(
        0.0, ge=0, le=1, description="Pull towards zero: beside the gradient for adamw, within it for the others."
    )
    decay: Literal["all", "weights"] = Field(
        "all", description="What weight_decay pulls: all parameters, or the kernels of convolutions alone."
    )
    clip_norm: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Longest gradient (norm over all parameters); longer ones are shortened. Left out: any."
    )


class Schedule(Closed):
    """Learning-rate schedule."""

    name: Literal["none", "step", "cosine"] = Field(
        "step", description="step: times `factor` every `every_epochs`. cosine: to 0 over all epochs."
    )
    every_epochs: int = Field(10, ge=1, le=100000, description="Of step (epochs).")
    factor: float = Field(0.5, gt=0, le=1, description="Of step.")
    warmup_epochs: float = Field(
        0.0, ge=0, le=1000, description="The rate rises from 0 over these (epochs, also a fraction of one)."
    )


class Streams(Closed):
    """Training of recurrent networks on sequences: successive windows of frames, with the hidden state carried over."""

    unroll: int = Field(5, ge=1, le=1000, description="Frames of a window, through which the gradient flows back.")
    max_step: int = Field(
        1, ge=1, le=100, description="Frames from one to the next: 1 to this number, drawn for each pass of a sequence."
    )
    reverse: bool = Field(False, description="Half of the passes go through their sequence backwards.")


class Train(Closed):
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
    streams: Streams = Field(default_factory=Streams, description="How recurrent networks follow sequences.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="bf16: faster on recent GPUs, two to three digits. fp16: for older GPUs, the loss is scaled. "
        "The CPU always takes fp32.",
    )
    channels_last: bool = Field(
        False, description="Order of the features in memory; faster for many networks on GPUs, last digits may differ."
    )
    compile: bool = Field(
        False, description="torch.compile: minutes at the start, faster steps; pays for long trainings on a GPU."
    )
    deterministic: bool = Field(
        True, description="false: faster on a GPU, and no two trainings are equal. On the CPU they always are."
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Exponential mean of the weights, which is validated and kept: its decay for each step, such as "
        "0.999. Left out: the weights themselves.",
    )
    patience: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Stop after so many epochs without a lower validation loss. Left out: never."
    )
    select: Literal["best", "last"] = Field(
        "best", description="The epoch whose weights are kept: that of the lowest validation loss, or the last."
    )
    validation_images: Annotated[int, Field(ge=1)] | None = Field(
        None, description="At most so many validation images after each epoch, the same ones; left out: all."
    )


class Predict(Closed):
    """Prediction of large images in tiles, with the same result as for the whole image.

    There are two exceptions. With group or instance normalisation the output depends on the whole tile, so tiles are
    blended at the seams. The hidden state of a recurrent network lacks information from beyond a tile's halo.
    """

    tile: tuple[Pixels, Pixels] = Field(
        (1024, 1024),
        description="Rows and columns (px) that are predicted at once; a halo is added where an image is "
        "larger. Smaller needs less memory and more time.",
    )
    batch: int = Field(
        1,
        ge=1,
        le=1024,
        description="Tiles that the network sees at once; halved where a GPU's memory does not hold them.",
    )
    average: Literal["none", "flips", "rotations"] = Field(
        "none",
        description="Predict the image mirrored (flips: 4 predictions), and turned by right angles too (rotations: 8), "
        "and take the mean; takes as many times as long.",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Of the convolutions on a GPU; a CPU always takes fp32."
    )
