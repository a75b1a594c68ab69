"""Export of a network as an ONNX graph, which maps normalised images to the probabilities that `predict` writes.

Axes     b batch, c channels, y rows, x columns
Inputs   images              float32, b x planes x rows x columns, normalised; rows and columns: multiples of stride_px
         classes             float32, b x classes, 1 for the class of an image, 0 for the others; only if it is an input
         state_{n}_h, _c     float32, b x channels x rows/scale x columns/scale: hidden state and cell of the n-th
                             C-LSTM layer, from 1 on; zeros at the first frame of a sequence; only recurrent networks
Outputs  probabilities       float32, b x channels x rows x columns, see outputs.py
         next_state_{n}_h, _c  state for the next frame; only recurrent networks

A recurrent network takes one frame at a time. If the class is not an input, the graph averages over all classes.
"""

import contextlib
import itertools
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from cellmill.models.outputs import to_probabilities

# The oldest opset that torch writes without conversion, and the file version of that time, for older runtimes.
OPSET = 18
IR_VERSION = 8

# Names of the channels of `probabilities`, in their order.
CHANNEL_NAMES: dict[str, tuple[str, ...]] = {
    "foreground": ("foreground",),
    "two_classes": ("foreground",),
    "contour": ("cell", "contour"),
    "distance": ("foreground", "distance"),
    "flow": ("foreground", "flow_y", "flow_x"),
    "flow_gray": ("grey",),
}

# Verbose loggers of the packages that write the graph, and the level to which they are set.
TALKATIVE = {
    "torch.onnx._internal.exporter._registration": logging.ERROR,  # warns that torchvision, not needed, is missing
    "onnx_ir": logging.WARNING,
    "onnxscript": logging.WARNING,
}

# Shape of the images used for tracing, rows and columns in blocks of stride_px. All differ, so that torch cannot
# confuse two axes.
TRACED_BATCH, TRACED_ROWS, TRACED_COLUMNS = 2, 3, 5


class Predictor(nn.Module):
    """A network with its class input, hidden state and conversion of logits to probabilities.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    output : str
        `network.output` of its preset.
    classes : int
        Number of class planes.
    is_class_told : bool
        Whether the class is an input; if not, predictions are averaged over all classes.
    has_memory : bool
        Whether the state is an input and an output.
    """

    def __init__(self, network: nn.Module, *, output: str, classes: int, is_class_told: bool, has_memory: bool) -> None:
        super().__init__()
        assert is_class_told or not (classes and has_memory), "each class would need a separate hidden state"
        self.network = network
        self.output = output
        self.classes = classes
        self.is_class_told = is_class_told
        self.has_memory = has_memory
        self.stride_px = int(network.stride_px)  # type: ignore[arg-type]
        self.halo_px = int(network.halo_px)  # type: ignore[arg-type]

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        images_bcyx, *others = given
        if not self.classes:
            return self._predict(images_bcyx, others)
        if self.is_class_told:
            return self._predict(_with_classes(images_bcyx, others[0]), others[1:])
        one_class_bc = torch.eye(self.classes)
        predicted = [
            self._predict(_with_classes(images_bcyx, one_class_bc[number : number + 1]), ())[0]
            for number in range(self.classes)
        ]
        return (torch.stack(predicted).mean(dim=0),)

    def _predict(self, images_bcyx: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if not self.network.is_recurrent:
            return (to_probabilities(self.network(images_bcyx), output=self.output),)
        pairs = list(zip(state[::2], state[1::2], strict=True)) or None
        logits_btcyx, after = self.network(images_bcyx[:, None], pairs)
        probabilities_bcyx = to_probabilities(logits_btcyx[:, 0], output=self.output)
        remembered = [tensor for pair in after for tensor in pair] if self.has_memory else []
        return (probabilities_bcyx, *remembered)


def make_graph(predictor: Predictor, *, planes: int) -> onnx.ModelProto:
    """Trace a network and write it as ONNX.

    Parameters
    ----------
    predictor : Predictor
        On the CPU; not changed.
    planes : int, > 0
        Frames or channels of the image, without the class planes.

    Returns
    -------
    onnx.ModelProto
        Valid graph with dynamic batch, rows and columns. It contains the weights, but no paths of this machine.
    """
    stride_px = predictor.stride_px
    images_bcyx = torch.zeros(TRACED_BATCH, planes, TRACED_ROWS * stride_px, TRACED_COLUMNS * stride_px)
    classes = [torch.zeros(TRACED_BATCH, predictor.classes)] if predictor.is_class_told else []
    with torch.no_grad():
        _, *state = predictor(images_bcyx, *classes)  # the shapes of the state are those after the first frame
    inputs = (images_bcyx, *classes, *state)
    given = ["images", *["classes" for _ in classes], *_state_names("state", len(state))]
    found = ["probabilities", *_state_names("next_state", len(state))]
    with _without_remarks():
        free = (
            torch.export.Dim("batch"),
            torch.export.Dim("row_blocks", min=1),
            torch.export.Dim("column_blocks", min=1),
        )
        shapes = tuple(_free_axes(tensor, free) for tensor in inputs)
        traced = torch.export.export(predictor, inputs, dynamic_shapes=(shapes,))
        program = torch.onnx.export(
            traced,
            input_names=given,
            output_names=found,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    graph = _clean(program.model_proto)
    scales = [images_bcyx.shape[2] // tensor.shape[2] for tensor in state]
    _name_axes(graph.graph.input, scales=[1, *[1 for _ in classes], *scales])
    _name_axes(graph.graph.output, scales=[1, *scales])
    onnx.checker.check_model(graph, full_check=True)
    return graph


def add_properties(graph: onnx.ModelProto, properties: Mapping[str, Any]) -> onnx.ModelProto:
    """Return a copy of a graph with metadata properties; text is stored as it is, all else as JSON."""
    described = onnx.ModelProto()
    described.CopyFrom(graph)
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in properties.items()}
    onnx.helper.set_model_props(described, dict(sorted(texts.items())))
    return described


def _with_classes(images_bcyx: Tensor, classes_bc: Tensor) -> Tensor:
    """Append class planes to those of the image; a single row of classes is used for the whole batch."""
    batch, _, rows, columns = images_bcyx.shape
    return torch.cat([images_bcyx, classes_bc[:, :, None, None].expand(batch, -1, rows, columns)], dim=1)


def _state_names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}_{layer}_{part}" for layer in range(1, count // 2 + 1) for part in ("h", "c")]


def _free_axes(tensor: Tensor, free: tuple[Any, Any, Any]) -> dict[int, Any]:
    """Return the dynamic axes of a traced tensor in terms of the batch and the blocks of the image."""
    batch, row_blocks, column_blocks = free
    if tensor.ndim == 2:
        return {0: batch}
    row_factor, column_factor = tensor.shape[2] // TRACED_ROWS, tensor.shape[3] // TRACED_COLUMNS
    rows = row_blocks if row_factor == 1 else row_factor * row_blocks
    columns = column_blocks if column_factor == 1 else column_factor * column_blocks
    return {0: batch, 2: rows, 3: columns}


def _clean(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the notes on the source code, which contain folder names of this machine."""
    cleaned = onnx.ModelProto()
    cleaned.CopyFrom(graph)
    assert not cleaned.functions, "expected torch to inline all functions"
    del cleaned.graph.value_info[:]
    parts = (cleaned.graph.node, cleaned.graph.input, cleaned.graph.output, cleaned.graph.initializer)
    for part in (cleaned, cleaned.graph, *itertools.chain.from_iterable(parts)):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    cleaned.ir_version = IR_VERSION
    cleaned.producer_version = torch.__version__.partition("+")[0]  # the same from CPU and GPU builds
    return cleaned


def _name_axes(tensors: Iterable[onnx.ValueInfoProto], *, scales: list[int]) -> None:
    for tensor, scale in zip(tensors, scales, strict=True):
        axes = tensor.type.tensor_type.shape.dim
        part = "" if scale == 1 else f"/{scale}"
        for axis, name in zip((0, 2, 3), ("batch", f"rows{part}", f"columns{part}"), strict=False):
            if axis < len(axes):
                axes[axis].dim_param = name


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Suppress irrelevant log messages and warnings: torch's old classes, torchvision, steps of the graph optimiser."""
    levels = {logging.getLogger(name): level for name, level in TALKATIVE.items()}
    before = {logger: logger.level for logger in levels}
    try:
        for logger, level in levels.items():
            logger.setLevel(level)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec")
            yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
