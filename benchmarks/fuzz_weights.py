"""Weights files that are whole, damaged, or that would do something else than hold weights."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fuzz_workers import Case, Finding

_SIZES = (0, 1, 2, 7, 8, 63, 10**4, 10**6, 10**9, 2**31, 2**40, 2**62, 2**63 - 1, 2**64, -1)
_ARGUMENTS = (
    "num_feat",
    "num_block",
    "num_conv",
    "num_layer",
    "upscale",
    "num_in_ch",
    "num_out_ch",
    "bn",
    "global_skip",
    "path",
    "nothing",
)
_ARCHS = (
    "SRResNet",
    "Compact",
    "RDN",
    "NSRNet",
    "MSRResNet",
    "MetricNet",
    "NMD",
    "spandrel",
    "VGGFeatures",
    "RRDBNet",
    "BasicVSR",
    "SpyNet",
    "",
    "x" * 999,
    "é",
)
_INDICES = ("9", "99", "100000", "999999999", "9" * 30, "-1", "x", "²", "")


class _Runs:
    """Pickles into a call of a function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def _states() -> list[tuple[str, dict[str, Any], int, dict[str, Any]]]:
    """(architecture, arguments, scale, state) of small networks: ours, and those that spandrel knows."""
    import torch
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet
    from spandrel.architectures.SPAN.__arch.span import SPAN
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    from mvmsr.registry import ARCHS

    torch.manual_seed(0)
    ours = {
        "SRResNet": {"num_feat": 8, "num_block": 2},
        "MSRResNet": {"num_feat": 8, "num_block": 2},
        "RDN": {"num_feat": 8, "num_block": 2, "num_layer": 2, "num_grow_ch": 4},
        "NSRNet": {"num_feat": 8, "num_layer": 2},
        "Compact": {"num_feat": 8, "num_conv": 3},
    }
    made = [(name, args, 4, ARCHS.get(name)(**args).state_dict()) for name, args in ours.items()]
    swinir = SwinIR(
        img_size=16, embed_dim=12, depths=[1], num_heads=[2], window_size=8, upscale=2, upsampler="pixelshuffledirect"
    )
    theirs = {
        "ESRGAN": RRDBNet(num_filters=8, num_blocks=1, scale=4),
        "SwinIR": swinir,
        "SPAN": SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2),
    }
    return made + [(name, {}, 0, network.state_dict()) for name, network in theirs.items()]


def _description(rng: random.Random, arch: str, args: Mapping[str, Any], scale: int) -> str:
    about: dict[str, Any] = {
        "format": 1,
        "arch": arch,
        "args": dict(args),
        "scale": scale,
        "version": "0.1",
        "name": "n",
    }
    if rng.random() < 0.3:
        return json.dumps(about)
    kind = rng.randrange(8)
    value = rng.choice(
        (*_SIZES, 1e308, float("nan"), None, True, [], {}, "x", [1] * 50, {"a": [{}]}, "../../x", "/etc/passwd")
    )
    if kind == 0:
        del about[rng.choice(list(about))]
    elif kind == 1:
        about[rng.choice(list(about))] = value
    elif kind in (2, 3):
        about["args"][rng.choice(_ARGUMENTS)] = rng.choice((value, rng.choice(_SIZES)))
    elif kind == 4:
        about["arch"] = rng.choice(_ARCHS)
        about["args"] = rng.choice(({}, about["args"], {"path": "case.safetensors"}, {"spynet_path": "case.pth"}))
    elif kind == 5:
        about["scale"] = rng.choice((*_SIZES, 4, True, "4"))
    elif kind == 6:
        return rng.choice(
            (
                "",
                "{",
                "[" * 100_000,
                '{"a":' * 100_000,
                '{"format": ' + "9" * 5000 + "}",
                "NaN",
                "null",
                "[]",
                "\ud7ff",
                "5",
            )
        )
    else:
        text = json.dumps(about)
        at = rng.randrange(len(text))
        return text[:at] + rng.choice('{}[]",:0é\\') + text[at + rng.randrange(2) :]
    return json.dumps(about)


def _change_state(rng: random.Random, state: dict[str, Any]) -> dict[str, Any]:
    """Other names, shapes and types; half the tensors; tensors larger than what they are made of."""
    import torch

    state = dict(state)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        if not state:
            break
        name = rng.choice(list(state))
        tensor = state[name]
        kind = rng.randrange(9)
        if kind == 0:
            state = {k: v for k, v in state.items() if rng.random() < 0.5}
        elif kind == 1:
            del state[name]
        elif kind == 2:
            parts = name.split(".")
            numbered = [i for i, part in enumerate(parts) if part.isdecimal()]
            parts[rng.choice(numbered or [0])] = rng.choice(_INDICES)
            state[".".join(parts)] = tensor
        elif kind == 3:
            shape = [rng.choice((0, 1, 2, 3, 12, 64, side)) for side in tensor.shape]
            state[name] = torch.zeros(shape if torch.Size(shape).numel() < 10**6 else [1])
        elif kind == 4:
            state[name] = tensor.to(
                rng.choice((torch.int64, torch.float16, torch.bool, torch.uint8, torch.float64, torch.bfloat16))
            )
        elif kind == 5:
            state[name] = tensor.float() * rng.choice((float("nan"), float("inf"), 1e38))
        elif kind == 6:
            state[name + rng.choice((".weight", "", "é", "\0", "x" * 5000))] = tensor.clone()
        elif kind == 7:
            state[name] = tensor.reshape(-1) if rng.random() < 0.5 else tensor.unsqueeze(0)
        else:
            state[name[::-1]] = state.pop(name)
    return state


def _inflated(rng: random.Random, state: dict[str, Any]) -> dict[str, Any]:
    """Tensors of absurd shapes over a single value, as pickled files may hold them."""
    import torch

    state = dict(state)
    for name in rng.sample(list(state), min(len(state), rng.choice((1, 2, 99)))):
        factor = rng.choice((100, 10**4, 10**6))
        sides = [side * factor if at == 0 or rng.random() < 0.3 else side for at, side in enumerate(state[name].shape)]
        state[name] = torch.zeros(1).expand(sides) if sides and math.prod(sides) < 2**60 else state[name]
    return state


def _safetensors(rng: random.Random, state: dict[str, Any], about: str | None) -> bytes:
    from safetensors.torch import save

    tensors = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    try:
        return save(tensors, metadata=None if about is None else {"mvmsr": about})
    except Exception:  # a name that it does not take
        return save({str(i): tensor for i, tensor in enumerate(tensors.values())})


def _lying(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file whose header says something else than its bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"] or ["t"]
    entry = header.setdefault(rng.choice(names), {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    kind = rng.randrange(7)
    if kind == 0:
        entry["shape"] = [rng.choice(_SIZES) for _ in range(rng.randrange(6))]
    elif kind == 1:
        entry["data_offsets"] = [rng.choice(_SIZES), rng.choice(_SIZES)]
    elif kind == 2:
        entry["dtype"] = rng.choice(("F64", "F8_E4M3", "BOOL", "I8", "F4", "C64", "", "x", 5))
    elif kind == 3:
        header["__metadata__"] = rng.choice(({"mvmsr": 5}, 5, [], {"a": {}}, {"mvmsr": "{}"}, {}))
    elif kind == 4:
        return struct.pack("<Q", rng.choice(_SIZES) & (2**64 - 1)) + data[8:]
    elif kind == 5:
        del entry[rng.choice(list(entry))]
    else:
        header |= {
            f"more{i}": {"dtype": "F32", "shape": [0] * rng.choice((1, 9, 1000)), "data_offsets": [0, 0]}
            for i in range(rng.choice((1, 5000)))
        }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _pickled(rng: random.Random, content: Any, legacy: bool) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _hostile(rng: random.Random, state: dict[str, Any], canary: Path) -> Any:
    """A state with a call in it that would make the canary."""
    import torch

    touch = f"touch {canary}"
    call = rng.choice(
        (
            _Runs(os.system, touch),
            _Runs(exec, f"open({str(canary)!r}, 'w')"),
            _Runs(eval, f"open({str(canary)!r}, 'w')"),
            _Runs(open, str(canary), "w"),
            _Runs(Path.touch, canary),
            _Runs(os.mkdir, str(canary)),
            _Runs(torch.save, 5, str(canary)),
            _Runs(torch.from_file, str(canary), True, 10),
            _Runs(getattr, "text", "upper"),
            _Runs(torch.zeros, 10**12),
            _Runs(bytearray, 10**11),
        )
    )
    where = rng.randrange(4)
    return (call, {**state, "x": call}, {"params_ema": state, "epoch": call}, {"params_ema": {**state, "x": [call]}})[
        where
    ]


def _wrapped(rng: random.Random, state: Any, about: str) -> Any:
    return rng.choice(
        (
            *(state, {"params_ema": state}, {"params": state, "params_ema": state}, {"state_dict": state, "epoch": 3}),
            *(
                {f"module.{k}": v for k, v in state.items()},
                {"params": {}},
                {"params": 5},
                [state],
                list(state.values()),
                None,
                5,
            ),
            *(
                {**state, "mvmsr": about},
                {**state, 5: 6},
                {5: state},
                {("a",): state},
                {"params": {"params": state}},
                "text",
            ),
        )
    )


def _rezipped(rng: random.Random, data: bytes) -> bytes:
    """A .pth archive with packed, missing, doubled, renamed or swollen parts."""
    source, buffer = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    victim = rng.choice(source.namelist())
    kind = rng.randrange(6)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == victim:
                if kind == 0:
                    continue
                if kind == 1:
                    content = bytes(rng.choice((0, 10**6, 3 * 10**8 if rng.random() < 0.1 else 10)))
                elif kind == 2:
                    content = _damaged(rng, content or b"0")
                elif kind == 3:
                    name = rng.choice(("../../x", "/etc/x", "archive/data/x", "x" * 300))
            target.writestr(name, content)
    return buffer.getvalue()


def _damaged(rng: random.Random, data: bytes) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return data[: rng.choice((rng.randrange(len(data)), min(len(data), rng.randrange(100))))]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 10))):
        at = rng.randrange(min(len(changed), rng.choice((100, 2000, 10**6))))
        changed[at] = rng.choice((changed[at] ^ (1 << rng.randrange(8)), rng.randrange(256), 255))
    return bytes(changed) if kind < 3 else bytes(changed) + rng.randbytes(rng.randrange(99))


class WeightsFiles:
    """Weights as `--model FILE` reads them."""

    name = "weights"

    def __init__(self) -> None:
        from mvmsr.inference.weights import WeightsError

        self.refusals = (WeightsError,)
        self.states = _states()

    def make(self, rng: random.Random, canary: Path) -> Case:
        """Equally many of every kind of damage and lie."""
        arch, args, scale, state = rng.choice(self.states)
        about = _description(rng, arch, args, scale) if scale else None
        plain = (
            json.dumps({"format": 1, "arch": arch, "args": args, "scale": scale, "version": "0.1"}) if scale else None
        )
        kind = rng.choice(
            ("state", "description", "lying", "damaged", "pth", "inflated", "code", "zip", "pickle", "other")
        )
        suffix = ".safetensors" if kind in ("description", "lying") else rng.choice((".safetensors", ".pth"))
        legacy = rng.random() < 0.3
        if kind == "state":
            state = _change_state(rng, state)
            data = _safetensors(rng, state, plain) if suffix == ".safetensors" else _pickled(rng, state, legacy)
        elif kind == "description":
            data = _safetensors(rng, state, about)
        elif kind == "lying":
            data = _lying(rng, _safetensors(rng, state, plain))
        elif kind == "damaged":
            data = _damaged(
                rng, _safetensors(rng, state, plain) if suffix == ".safetensors" else _pickled(rng, state, legacy)
            )
        else:
            suffix = rng.choice((".pth", ".pth", ".pt", ".ckpt"))
            data = self._pickle_of(rng, kind, state, about or "{}", canary, legacy)
            if kind == "other":
                suffix = rng.choice((".onnx", ".safetensors", ".pth", ".txt", "", ".PTH"))
        return Case(f"{kind}: {suffix}{' legacy' * legacy} of {arch}", suffix, data)

    def _pickle_of(
        self, rng: random.Random, kind: str, state: dict[str, Any], about: str, canary: Path, legacy: bool
    ) -> bytes:
        if kind == "pth":
            return _pickled(rng, _wrapped(rng, _change_state(rng, state), about), legacy)
        if kind == "inflated":
            return _pickled(rng, _wrapped(rng, _inflated(rng, state), about), legacy)
        if kind == "code":
            return _pickled(rng, _hostile(rng, state, canary), legacy)
        if kind == "zip":
            return _rezipped(rng, _pickled(rng, state, False))
        if kind == "pickle":
            content = rng.choice(
                (state and 5, {"a": 1}, _Runs(os.system, f"touch {canary}"), _Runs(os.mkdir, str(canary)), [[]] * 9)
            )
            return (
                _damaged(rng, pickle.dumps(content, rng.randrange(6))) if rng.random() < 0.5 else pickle.dumps(content)
            )
        return rng.choice(
            (
                b"",
                rng.randbytes(300),
                b"PK\3\4" + rng.randbytes(90),
                b"\x08\x07\x12\x07pytorch" + rng.randbytes(60),
                b"\x80\x02}.",
            )
        )

    def read(self, path: Path) -> str:
        """The network of the file, loaded."""
        from mvmsr.inference.weights import find_weights, load_generator

        module, info = load_generator(find_weights(path))
        if not isinstance(info.scale, int) or info.scale < 1:
            raise Finding(f"a network with the scale {info.scale!r}")
        if module.training:
            raise Finding("a network in training mode")
        return f"loaded ({info.source})"
