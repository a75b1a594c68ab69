"""Presets: architecture, input, training and prediction of a network, with all their defaults and ranges."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cellmill.config.augmentation import Augmentation
from cellmill.config.closed import Closed

Pixels = Annotated[int, Field(ge=16, le=16384)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Input(Closed):
    """Input of the network: normalisation, frames, class planes and warm-up."""

    normalise: Literal["zscore", "percentile", "none", "auto"] = Field(
        "zscore",
        description="Of each image, without its padding. zscore: mean 0 and standard deviation 1. percentile: the 1st "
        "percentile becomes -1 and the 99.8th becomes 3, whatever the area that objects cover. none: values as they "
        "are. auto: that of the weights which the training starts from; zscore, if these are random.",
    )
    polarity: Literal["keep", "invert", "bright", "auto"] = Field(
        "keep",
        description="invert: all images are inverted. bright: images whose ground is bright (median above the middle "
        "of the range) are inverted, so that all objects are bright. auto: invert, if objects are darker than the "
        "ground in all training images; bright, if the images contain both kinds and this rule tells them apart; "
        "otherwise keep.",
    )
    min_contrast: Annotated[float, Field(ge=0, le=1000)] | Literal["auto"] = Field(
        0.0,
        description="Contrast below which an image is not amplified further: its spread over that of its noise, which "
        "is 1 for white noise. Without a limit, zscore and percentile make the noise of an image without objects as "
        "large as objects in others. auto: a quarter of the lowest contrast of the training images with objects, at "
        "most 6; 0, if this is not above 1. 0: no limit. Of several channels, the first.",
    )
    diameter_px: Annotated[float, Field(ge=4, le=256)] | None = Field(
        None,
        description="Working scale: images are resampled for the network so that their objects have this median "
        "diameter (px, of the disc of equal area). Maps are resampled back. Default: images are not resampled.",
    )
    scale: Literal["dataset", "image", "auto"] = Field(
        "dataset",
        description="How an image is brought to diameter_px. dataset: all images by the same factor, from the "
        "annotations of the training images, or by pixel size where both sizes are known. image: each image by its own "
        "factor, from its annotations in training and from a first look of the network in prediction. auto: image, if "
        "the diameters of the training images differ by more than a factor of 1.5; otherwise dataset.",
    )
    frames: int = Field(
        1,
        ge=1,
        le=99,
        description="Number of frames that form one input, an odd number: the image and its neighbours in the same "
        "sequence. A missing neighbour is replaced by the nearest frame.",
    )
    class_planes: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Values of class_column. Each adds an input plane, which is 1 for images of this class and 0 "
        "otherwise.",
    )
    class_at_prediction: Literal["average", "oracle"] = Field(
        "average",
        description="average: the mean of the predictions for all classes, because the class of a new image is "
        "unknown. oracle: the class given by class_column; the report states this.",
    )

    warmup: int = Field(
        4,
        ge=0,
        le=1000,
        description="Recurrent networks only: number of initial frames fed in reverse order before prediction, to "
        "initialise the hidden state.",
    )

    @model_validator(mode="after")
    def _frames_have_a_middle(self) -> "Input":
        if self.frames % 2 == 0:
            raise ValueError(
                f"frames: expected an odd number, so that the image is in the middle, found {self.frames}. "
                f"Set it to {self.frames - 1} or {self.frames + 1}"
            )
        if len(set(self.class_planes)) != len(self.class_planes):
            raise ValueError(
                f"class_planes: expected different classes, found {self.class_planes}. Remove the duplicate"
            )
        return self


class DistanceWeight(Closed):
    """Extra weight between cells that nearly touch: weight * exp(-(d1 + d2)^2 / (factor * sigma^2))."""

    weight: float = Field(10.0, gt=0, le=1000, description="Weight added where both distances are 0.")
    sigma_px: float = Field(5.0, gt=0, le=100, description="Scale on which the weight falls with the distances (px).")
    factor: Literal[1, 2] = Field(1, description="1: as in paper 2. 2: as in Ronneberger et al. 2015.")
    reading: Literal["to_border", "to_cell"] = Field(
        "to_border",
        description="to_border: distance to the cell's outermost pixels. to_cell: distance to the cell (0 inside it).",
    )
    inside: bool = Field(False, description="Apply the weight to pixels inside cells as well.")


class Loss(Closed):
    """Loss function of the training."""

    name: Literal["bce", "dice", "bce_dice", "focal", "ce", "mse", "distance", "flow"] = Field(
        "bce",
        description="bce: binary cross-entropy, mean over the valid pixels. dice: one minus the Dice coefficient of "
        "the batch, for rare foreground. bce_dice: their sum. focal: bce with less weight on pixels that are already "
        "correct. ce: cross-entropy of the classes. mse: half the mean squared error (flow_gray). distance, flow: "
        "half the mean squared error of the map, plus bce of the foreground.",
    )
    positive_weight: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Weight of foreground pixels in bce and focal. Values above 1 find more foreground and give "
        "larger objects.",
    )
    class_weights: list[Annotated[float, Field(ge=0, le=1000)]] | None = Field(
        None, description="ce only: one weight per class, background first. Default: 1 for each class."
    )
    normaliser: Literal["pixels", "weights"] = Field(
        "pixels",
        description="ce only: what the weighted sum is divided by, the number of pixels or the sum of the weights.",
    )
    gamma: float = Field(
        2.0, ge=0, le=10, description="focal only: exponent that reduces the weight of correct pixels; 0 gives bce."
    )
    distance: DistanceWeight | None = Field(
        None, description="ce only: extra weight between cells that nearly touch. Default: none."
    )


class Optimiser(Closed):
    """Optimiser, with weight decay and gradient clipping."""

    name: Literal["adam", "adamw", "sgd", "adagrad", "rmsprop"] = Field("adam", description="Update rule.")
    learning_rate: float = Field(0.01, gt=0, le=10, description="Largest learning rate of the schedule.")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="Momentum of sgd and rmsprop; first beta of adam and adamw; not used by adagrad."
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight decay: separate from the gradient for adamw, added to the gradient for the others.",
    )
    decay: Literal["all", "weights"] = Field(
        "all", description="Parameters that weight_decay applies to: all, or only the kernels of convolutions."
    )
    clip_norm: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Largest gradient norm over all parameters; larger gradients are scaled down. Default: no limit.",
    )


class Schedule(Closed):
    """Learning-rate schedule."""

    name: Literal["none", "step", "cosine"] = Field(
        "step",
        description="step: multiply by `factor` every `every_epochs`. cosine: decrease to 0 over all epochs. "
        "none: constant.",
    )
    every_epochs: int = Field(10, ge=1, le=100000, description="step only: interval between changes (epochs).")
    factor: float = Field(0.5, gt=0, le=1, description="step only: factor for the learning rate.")
    warmup_epochs: float = Field(
        0.0, ge=0, le=1000, description="Time over which the learning rate rises from 0 (epochs, fractions allowed)."
    )


class Streams(Closed):
    """Training of recurrent networks on sequences: successive windows of frames, with the hidden state carried over."""

    unroll: int = Field(
        5, ge=1, le=1000, description="Number of frames in a window, over which gradients are backpropagated."
    )
    max_step: int = Field(
        1,
        ge=1,
        le=100,
        description="Largest step between successive frames; each pass over a sequence draws its step from 1 to "
        "this number.",
    )
    reverse: bool = Field(False, description="Run half of the passes backwards in time.")


class Train(Closed):
    """The training of a network."""

    epochs: int = Field(
        50,
        ge=1,
        le=100000,
        description="Number of passes over the training images (epochs), each followed by a validation. With `steps` "
        "or `minutes`: number of equal intervals, each followed by a validation. Set alone beside a preset, it "
        "replaces the steps or minutes of the preset.",
    )
    steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        None,
        description="Number of optimiser steps of the whole training. All images are used equally often, and "
        "patches_per_image is not used. Schedules extend over the steps as they do over the epochs. Default: those of "
        "`epochs`.",
    )
    minutes: Annotated[float, Field(gt=0, le=1_000_000)] | None = Field(
        None,
        description="Time for the training with its validations (min). The number of steps follows from a short "
        "measurement and is written to train.json; as `steps` it gives the same weights. Default: no limit.",
    )
    batch: int = Field(2, ge=1, le=4096, description="Number of patches per step.")
    patch: tuple[Pixels, Pixels] = Field(
        (512, 512), description="Rows and columns of a patch (px), multiples of 2**levels."
    )
    patches_per_image: int = Field(
        1,
        ge=1,
        le=10000,
        description="Number of patches drawn from each training image per epoch; not used with `steps` or `minutes`.",
    )
    sampling: Literal["uniform", "balanced"] = Field(
        "uniform",
        description="uniform: anywhere in the image. balanced: half of the patches contain foreground, if the image "
        "has any.",
    )
    loss: Loss = Field(default_factory=Loss, description="Loss function.")
    optimiser: Optimiser = Field(
        default_factory=Optimiser, description="Optimiser, weight decay and gradient clipping."
    )
    schedule: Schedule = Field(default_factory=Schedule, description="Learning-rate schedule.")
    augmentation: Augmentation = Field(default_factory=Augmentation, description="Random changes of patches.")
    streams: Streams = Field(default_factory=Streams, description="Training of recurrent networks on sequences.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="Precision of the convolutions. bf16: half the time on recent GPUs and on CPUs with AMX, with "
        "two to three significant digits; other devices use fp32. fp16: for older GPUs, with loss scaling; a CPU uses "
        "fp32.",
    )
    channels_last: bool = Field(
        False,
        description="Store channels last in memory. Faster for many networks on GPUs; the last digits may differ.",
    )
    compile: bool = Field(
        False,
        description="Use torch.compile: takes minutes at the start, then steps are faster. Useful for long "
        "trainings on a GPU.",
    )
    deterministic: bool = Field(
        True,
        description="false: faster on a GPU, but repeated trainings give different results. On the CPU they are "
        "always identical.",
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Decay per step of an exponential moving average of the weights, such as 0.999. The average is "
        "validated and kept. Default: no averaging.",
    )
    patience: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Stop after this number of epochs without a lower validation loss. Default: never."
    )
    select: Literal["best", "last"] = Field(
        "best",
        description="Epoch whose weights are kept. best: the epoch with the lowest validation loss, or the weights "
        "that the training started from if theirs is lower. last: the last epoch.",
    )
    validation_images: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Largest number of images validated after each epoch, always the same images. Default: all."
    )

    @model_validator(mode="after")
    def _length_is_set_once(self) -> "Train":
        if self.minutes is not None and self.steps is not None:
            raise ValueError(
                f"steps, minutes: expected at most one of them, found steps {self.steps} and minutes "
                f"{self.minutes:g}. Remove one, or set it to null"
            )
        return self


class Predict(Closed):
    """Prediction of large images in tiles, with the same result as for the whole image.

    There are two exceptions. With group or instance normalisation the output depends on the whole tile, so tiles are
    blended at the seams. The hidden state of a recurrent network lacks information from beyond a tile's halo.
    """

    tile: tuple[Pixels, Pixels] = Field(
        (1024, 1024),
        description="Rows and columns (px) predicted at once; a halo is added if an image is larger. Smaller tiles "
        "need less memory and more time.",
    )
    batch: int = Field(
        1,
        ge=1,
        le=1024,
        description="Number of tiles predicted together; halved if they do not fit into GPU memory.",
    )
    average: Literal["none", "flips", "rotations"] = Field(
        "none",
        description="Average the predictions of mirrored images (flips: 4 predictions), or of images that are also "
        "rotated by right angles (rotations: 8). Takes 4 or 8 times as long.",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Precision of the convolutions, as in `train.precision`."
    )
