"""Networks kept in ncnn's and in TensorFlow.js's files, as ONNX graphs.

Only the layers are known that `benchmarks/outside_model.py` meets; any other is refused by name. Pictures go in as
(N, 3, h, w) RGB in [0, 1] and come out likewise, magnified.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUT, OUTPUT = "lq", "sr"
_HALF_PRECISION = 0x01306B47
"""What ncnn writes before weights of 16 bits; zero stands before those of 32."""
_OPERATIONS = {0: "Add", 1: "Sub", 2: "Mul", 3: "Div"}


class Graph:
    """Nodes and weights as they come, in the end a model."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, values: np.ndarray) -> str:
        """Keep an array under a name."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """One operation; the name of what it gives."""
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def conv(self, source: str, output: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """A convolution with weights (out, in, side, side) that keeps height and width."""
        names = [source, self.constant(f"{output}.weight", weight), self.constant(f"{output}.bias", bias)]
        return self.add("Conv", names, output, pads=[side // 2 for side in weight.shape[2:]] * 2)

    def model(self) -> onnx.ModelProto:
        """The checked model."""
        shapes = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *sides])
            for name, sides in ((INPUT, ["h", "w"]), (OUTPUT, ["H", "W"]))
        ]
        graph = helper.make_graph(self.nodes, "outside_model", shapes[:1], shapes[1:], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def from_ncnn(param: Path, weights: Path) -> onnx.ModelProto:
    """A network of ncnn's text file and its binary file.

    Raises:
        ValueError: an unknown layer, or a binary file that is not the text file's.

    Source: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
    """
    graph, stream = Graph(), _Stream(weights)
    names = {"data": INPUT, "output": OUTPUT}
    for line in param.read_text().splitlines()[2:]:
        kind, layer, inputs, outputs, *rest = line.split()
        sources = [names.setdefault(name, name) for name in rest[: int(inputs)]]
        results = rest[int(inputs) : int(inputs) + int(outputs)]
        options = {
            int(key): float(value) for key, value in (each.split("=") for each in rest[int(inputs) + len(results) :])
        }
        if kind == "Input":
            continue
        if kind == "Split":
            names.update(dict.fromkeys(results, sources[0]))
            continue
        output = names.setdefault(results[0], results[0])
        if kind == "Convolution":
            side, channels = int(options[1]), int(options[0])
            if options.get(4, 0) != side // 2 or options.get(3, 1) != 1 or options.get(9, 0) or not options.get(5):
                raise ValueError(f"{param}: {layer} is a convolution of another kind; expected same size and a bias")
            weight = stream.tagged(int(options[6])).reshape(channels, -1, side, side)
            graph.conv(sources[0], output, weight, stream.floats(channels))
        elif kind == "MemoryData":
            graph.constant(output, stream.floats(int(options[2])).reshape(1, -1, 1, 1))
        elif kind == "BinaryOp":
            if options.get(1):
                sources.append(graph.constant(f"{output}.scalar", np.float32(options[2])))
            graph.add(_OPERATIONS[int(options.get(0, 0))], sources, output)
        elif kind == "Swish":
            graph.add("Mul", [sources[0], graph.add("Sigmoid", sources, f"{output}.gate")], output)
        elif kind == "Concat":
            graph.add("Concat", sources, output, axis=1)
        elif kind == "PixelShuffle":
            graph.add("DepthToSpace", sources, output, blocksize=int(options[0]), mode="CRD")
        elif kind == "Sigmoid":
            graph.add("Sigmoid", sources, output)
        else:
            raise ValueError(f"{param}: the layer {kind} ({layer}) is not known here")
    stream.end()
    return graph.model()


class _Stream:
    """ncnn's binary file, read from start to end."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.position = path, path.read_bytes(), 0

    def floats(self, count: int) -> np.ndarray:
        """That many numbers of 32 bits."""
        return self._take(np.dtype("<f4"), count)

    def tagged(self, count: int) -> np.ndarray:
        """That many weights, of the precision that is written before them."""
        (tag,) = struct.unpack("<I", self._take(np.dtype("u1"), 4).tobytes())
        if tag not in (0, _HALF_PRECISION):
            raise ValueError(f"{self.path}: weights of a kind {tag:#x} that is not known here")
        values = self._take(np.dtype("<f2" if tag else "<f4"), count)
        self.position += -self.position % 4
        return values.astype(np.float32)

    def end(self) -> None:
        """Everything must have been read."""
        if self.position != len(self.data):
            raise ValueError(f"{self.path}: {len(self.data)} bytes, of which the network takes {self.position}")

    def _take(self, kind: np.dtype[Any], count: int) -> np.ndarray:
        if self.position + count * kind.itemsize > len(self.data):
            raise ValueError(f"{self.path} ends before the network's weights do")
        values = np.frombuffer(self.data, kind, count, self.position)
        self.position += values.nbytes
        return values


def from_tfjs(description: Path) -> onnx.ModelProto:
    """A Keras network of TensorFlow.js's `model.json` and the files that it names.

    Raises:
        ValueError: an unknown layer, or weights that are not 32-bit numbers.
    """
    document = json.loads(description.read_text())
    weights = _keras_weights(description, document["weightsManifest"])
    graph, config = Graph(), document["modelTopology"]["model_config"]["config"]
    names = {config["input_layers"][0][0]: INPUT, config["output_layers"][0][0]: OUTPUT}
    for layer in config["layers"]:
        kind, name, options = layer["class_name"], layer["name"], layer["config"]
        output = names.setdefault(name, name)
        sources = [names[node[0]] for node in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else []
        if kind == "InputLayer":
            continue
        if kind == "Conv2D":
            same = options["padding"] == "same" and options["strides"] == [1, 1] and options["activation"] == "linear"
            if not same or not options["use_bias"]:
                raise ValueError(f"{description}: {name} is a convolution of another kind; expected same size, a bias")
            kernel = weights[f"{name}/kernel"].transpose(3, 2, 0, 1)  # from (h, w, in, out)
            graph.conv(sources[0], output, kernel, weights[f"{name}/bias"])
        elif kind == "Activation" and options["activation"] == "relu":
            graph.add("Relu", sources, output)
        elif kind == "Concatenate":
            graph.add("Concat", sources, output, axis=1)
        elif kind == "Add":
            graph.add("Add", sources, output)
        elif kind == "MultiplyBeta":
            graph.add("Mul", [*sources, graph.constant(f"{output}.beta", np.float32(options["beta"]))], output)
        elif kind == "PixelShuffle4x":
            graph.add("DepthToSpace", sources, output, blocksize=options["scale"], mode="DCR")
        else:
            raise ValueError(f"{description}: the layer {kind} ({name}) is not known here")
    return graph.model()


def _keras_weights(description: Path, manifest: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for group in manifest:
        data = b"".join((description.parent / name).read_bytes() for name in group["paths"])
        position = 0
        for entry in group["weights"]:
            if entry["dtype"] != "float32" or "quantization" in entry:
                raise ValueError(f"{description}: {entry['name']} is {entry['dtype']}; expected plain float32")
            count = int(np.prod(entry["shape"]))
            found[entry["name"]] = np.frombuffer(data, "<f4", count, position).reshape(entry["shape"])
            position += 4 * count
        if position != len(data):
            raise ValueError(f"{description}: its weights have {len(data)} bytes, of which {position} are named")
    return found
