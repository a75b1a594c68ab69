"""Config section `network` of a preset: the architectures and the keys of each."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from cellmill.config.closed import Closed
from cellmill.declared import modules_that_declare, read_declaration

Output = Literal["foreground", "two_classes", "contour", "distance", "flow", "flow_gray"]
_OUTPUT = (
    "What the network says of a pixel. foreground: one logit, sigmoid. two_classes: background and foreground, "
    "softmax. contour: background, cell, and the line around each cell, softmax. distance: foreground, and how far "
    "inside its cell a pixel lies. flow: foreground, and the direction to the middle of its cell. flow_gray: the gray "
    "value of that direction's colour (paper 4)."
)
Channels = Annotated[int, Field(ge=1, le=1024)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class UNet(Closed):
    """U-Net with normalisation (paper 4)."""

    architecture: Literal["unet"] = Field("unet", description="A module of cellmill.models.")
    output: Output = Field("foreground", description=_OUTPUT)
    base_channels: Channels = Field(
        32,
        description="Channels of the first level; each deeper level has twice as many.",
    )
    levels: int = Field(
        4, ge=1, le=6, description="Poolings. Each doubles what a pixel sees: 4 see 204 px, 3 see 100 px."
    )
    norm: Literal["batch", "group", "instance", "none"] = Field(
        "batch",
        description="Normalisation after each convolution. group: up to 8 groups of channels of one image, which does "
        "not mix images of a batch; instance: each channel of one image.",
    )
    dropout: Dropout = Field(0.0, description="Probability that a feature is set to zero after each convolution.")
    conditioning: Literal["planes", "film"] = Field(
        "planes",
        description="How input.class_planes enter. planes: beside the image, where batch normalisation takes most of "
        "them away again. film: a gain and an offset for each channel after each normalisation.",
    )


class StemNet(Closed):
    """Fully convolutional network of paper 1: 5x5 convolutions, no normalisation."""

    architecture: Literal["stemnet"] = Field(description="A module of cellmill.models.")
    output: Output = Field("two_classes", description=_OUTPUT)
    base_channels: Channels = Field(16, description="Channels of the first level; each deeper level has twice as many.")
    levels: int = Field(3, ge=2, le=6, description="Resolutions; one pooling less.")
    kernel_px: Literal[3, 5, 7] = Field(5, description="Side of a convolution.")
    dropout: Dropout = Field(0.25, description="Probability that a feature is set to zero after each convolution.")
    relu_logits: bool = Field(False, description="ReLU also on the logits, as a widely used implementation has it.")


class ClstmText(Closed):
    """C-LSTM U-Net as described in paper 2: recurrent encoder, three poolings."""

    architecture: Literal["clstm_unet_text"] = Field(description="A module of cellmill.models.")
    output: Output = Field("two_classes", description=_OUTPUT)
    base_channels: Channels = Field(
        128, description="Channels of the first level; then two, four, eight times as many."
    )
    lstm_kernel_px: Literal[3, 5] = Field(3, description="Side of the convolutions within a C-LSTM.")
    memory: bool = Field(True, description="false: each frame starts from an empty memory; all else is equal.")


class ClstmCode(Closed):
    """C-LSTM U-Net as in its authors' code: strided convolutions, skip connections from block inputs, three classes."""

    architecture: Literal["clstm_unet_code"] = Field(description="A module of cellmill.models.")
    output: Output = Field("contour", description=_OUTPUT)
    base_channels: Channels = Field(128, description="Channels of the first C-LSTM; then 2, 2, 4 times as many.")
    conv_kernel_px: Literal[3, 5] = Field(3, description="Side of the convolutions outside the C-LSTMs.")
    memory: bool = Field(True, description="false: each frame starts from an empty memory; all else is equal.")


class UNetIsbi(Closed):
    """U-Net of paper 3: no normalisation, nearest-neighbour upsampling, dropout at the two deepest levels."""

    architecture: Literal["unet_isbi"] = Field(description="A module of cellmill.models.")
    output: Output = Field("foreground", description=_OUTPUT)
    base_channels: Channels = Field(64, description="Channels of the first level; each deeper level has twice as many.")
    levels: int = Field(4, ge=2, le=6, description="Poolings; 3 is what the caption of paper 3 says.")
    dropout: Dropout = Field(0.5, description="Probability that a feature of the two deepest levels is set to zero.")


class SegNet(Closed):
    """SegNet with the layers of VGG16 (paper 3)."""

    architecture: Literal["segnet"] = Field(description="A module of cellmill.models.")
    output: Output = Field("two_classes", description=_OUTPUT)
    base_channels: Channels = Field(64, description="Channels of the first block; then 2, 4, 8, 8 times as many.")
    norm: Literal["batch", "none"] = Field("batch", description="Normalisation after each convolution.")


class Fcrn(Closed):
    """FCRN-A (paper 5): no skip connections."""

    architecture: Literal["fcrn"] = Field(description="A module of cellmill.models.")
    output: Output = Field("two_classes", description=_OUTPUT)
    base_channels: Channels = Field(32, description="Channels of the first level; then 2, 4 and 16 times as many.")
    norm: Literal["batch", "none"] = Field("none", description="Normalisation after each convolution.")
    init: Literal["xavier", "he"] = Field("xavier", description="Initial weights.")
    upsampling: Literal["nearest", "bilinear"] = Field("nearest", description="How resolution doubles.")
    head_kernel_px: Literal[1, 3] = Field(1, description="Side of the last convolution.")


NetworkSection = UNet | StemNet | ClstmText | ClstmCode | UNetIsbi | SegNet | Fcrn
Network = Annotated[NetworkSection, Field(discriminator="architecture")]

# Architectures with a hidden state that carries over from frame to frame
RECURRENT = tuple(name for name, is_recurrent in modules_that_declare("models", "IS_RECURRENT").items() if is_recurrent)


def stride_px(network: NetworkSection) -> int:
    """Return the number of pixels that the sides of a patch must be multiples of."""
    halvings = read_declaration(f"models/{network.architecture}.py", "HALVINGS")
    if isinstance(halvings, tuple):
        key, added = halvings
        halvings = int(getattr(network, key)) + int(added)
    return 2 ** int(halvings)


def network_settings(preset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `build_network`, including those derived from other sections of the preset."""
    network, planes = dict(preset["network"]), len(preset["input"]["class_planes"])
    if "conditioning" in network:
        network["film"] = planes if network.pop("conditioning") == "film" else 0
    in_channels = int(preset["input"]["frames"]) + planes
    return {**network, "in_channels": in_channels, "width": preset["width"]}


def sees_sequences(network: Mapping[str, Any], input: Mapping[str, Any]) -> bool:
    """Return whether a network takes more than one frame as input."""
    return network["architecture"] in RECURRENT or input.get("frames", 1) > 1
