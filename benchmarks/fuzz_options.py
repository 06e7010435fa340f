"""Options files that are valid, nearly valid, and anything but."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from fuzz_workers import Case, Finding

ROOT = Path(__file__).resolve().parents[1]
_Loader, _Dumper = getattr(yaml, "CSafeLoader", yaml.SafeLoader), getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_WORDS = (
    *("name", "scale", "type", "train", "val", "val_2", "datasets", "network_g", "network_d", "network_m", "path"),
    *("pixel_opt", "gan_opt", "optim_g", "scheduler", "milestones", "dataroot_gt", "gt_size", "betas", "lr", "task"),
    *("model_type", "model_fields", "model_config", "__class__", "__dict__", "_source", "terms", "args", "self", "<<"),
    *(
        "extractor",
        "metrics",
        "protocol",
        "io_backend",
        "loss_weight",
        "total_iter",
        "experiments_root",
        "*",
        "&a",
        "!",
    ),
)
_TYPES = (
    *("L1Loss", "GANLoss", "PairLoss", "TripletLoss", "PerceptualLoss", "NaturalnessLoss", "CharbonnierLoss", "Adam"),
    *("SRResNet", "RDN", "NSRNet", "MSRResNet", "Compact", "MetricNet", "spandrel", "VGGFeatures", "NMD", "RRDBNet"),
    *("MultiStepLR", "CosineAnnealingRestartLR", "PairedImageDataset", "ESRGANModel", "SRModel", "nmd", "SGD", "LBFGS"),
)
_ALPHABET = "{}[]:,-&*!#'\"|>?% \n\tab1.e~<=@`\\\r\0\x7f\x85\u2028\ufeff\ufffe😀ä\x1b"


def _numbers(rng: random.Random) -> Any:
    return rng.choice(
        (
            *(0, -1, 1, 2, 3, 7, 10**9, -(10**9), 2**31, 2**63 - 1, 2**63, 2**64, 10**30, -(10**30), 1e308, 1e-308),
            *(5e-324, -0.0, 0.1, 1.5, float("nan"), float("inf"), -float("inf"), True, False),
        )
    )


def _texts(rng: random.Random) -> Any:
    return rng.choice(
        (
            *(
                "",
                " ",
                "..",
                ".",
                "../../x",
                "/etc/passwd",
                "/",
                "~",
                "C:\\x",
                "a\0b",
                "a\nb",
                "x" * 300,
                "x" * 100_000,
            ),
            *("😀" * 50, "ä", "\u202eabc", "\ud7ff", "null", "yes", "1e-4", "0x10", "1:30", "2024-05-01", "{}", "{0}"),
            *("{0.__class__}", "%s%n", "${HOME}", "$(touch canary)", "cuda:99", "cpu", "auto", "bf16-mixed", "y"),
            *_WORDS,
            *_TYPES,
        )
    )


def _value(rng: random.Random, depth: int = 0) -> Any:
    pick = rng.random()
    if pick < 0.3:
        return _numbers(rng)
    if pick < 0.65:
        return _texts(rng)
    if pick < 0.72:
        return None
    if pick < 0.74:
        return [rng.randrange(9) for _ in range(rng.choice((0, 1, 2, 10) * 9 + (5000,)))]
    if depth > 3:
        return []
    if pick < 0.87:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {str(_texts(rng)): _value(rng, depth + 1) for _ in range(rng.randrange(4))}


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a tree."""
    found, left = [], [tree]
    while left:
        node = left.pop()
        for key, child in list(node.items()) if isinstance(node, dict) else list(enumerate(node)):
            found.append((node, key))
            if isinstance(child, (dict, list)):
                left.append(child)
    return found


def _misspelt(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    letter = rng.choice("abcdefgxyz_ .-😀")
    return rng.choice((text[:at] + text[at + 1 :], text[:at] + letter + text[at:], text.upper(), text[::-1]))


def _change_tree(rng: random.Random, tree: Any) -> None:
    places = _places(tree)
    if not places:
        return
    node, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[_misspelt(rng, str(key))] = node.pop(key)
    elif kind == 2 and isinstance(node, dict):
        node[rng.choice(_WORDS)] = _value(rng)
    elif kind == 3:
        node[key] = rng.choice(([node[key]], {"type": node[key]}, {str(key): node[key]}, str(node[key])))
    elif kind == 4:
        other, there = rng.choice(places)
        node[key] = yaml.load(yaml.dump(other[there], Dumper=_Dumper), Loader=_Loader)
    elif kind == 5:
        node[key] = rng.choice(_TYPES)
    else:
        node[key] = _value(rng)


def _deep(rng: random.Random) -> str:
    levels = rng.choice((10, 49, 51, 100, 1000) * 9 + (100_000,))
    opening, closing = rng.choice(
        (("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("[{a: ", "}]"), ("!!seq [", "]"))
    )
    return opening * levels + "1" + closing * levels


def _laughs(rng: random.Random) -> str:
    levels, width = rng.choice((3, 9, 30)), rng.choice((2, 9))
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    merges = ["m0: &m0 {k: 1}"] + [
        f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * width)}]}}" for i in range(1, levels)
    ]
    return "\n".join(rng.choice((lines, merges))) + "\n"


_SNIPPETS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: "&a " + rng.choice(("*a", "[*a]", "{b: *a}", "1")),
    lambda rng: rng.choice(("*a", "*unknown", "<<: *a", "{<<: 5}", "{<<: [1]}", "{<<: {lr: 1}}", "<<: [*a, *a]")),
    lambda rng: (
        rng.choice(("!!python/object/apply:os.system", "!!python/name:os.system", "!!python/object/new:type"))
        + " ['touch canary']"
    ),
    lambda rng: rng.choice(
        ("!!binary aGk=", "!!set {a}", "!!omap [a: 1]", "!!timestamp 1", "!!int x", "!!float y", "!x y")
    ),
    lambda rng: rng.choice(("!!bool maybe", "!!null 5", "!!str [a]", "!!map 5", "!!int ''", "!!int 0b", "!!float ''")),
    lambda rng: rng.choice(("? [a, b]\n: 1", "? {a: b}\n: 1", "1: 2", "true: 1", "~: 1", ": 1", "'': 1", "{[a]: 1}")),
    lambda rng: rng.choice(
        ("---", "...", "--- a\n--- b", "%YAML 9.9\n---", "%TAG ! x\n---", "%YAML 1.1", "|9", ">\n  x")
    ),
    lambda rng: rng.choice("9" * 1) * rng.choice((20, 400, 5000) * 9 + (200_000,)),
    lambda rng: rng.choice(
        (".nan", ".inf", "-.INF", "1e999", "1e-999", "0x" + "f" * 5000, "0b" + "1" * 9000, "1_" * 3000)
    ),
    lambda rng: rng.choice(
        ("1" * 50, "1." + "0" * 50_000, "0" * 90, "\\", '"\\u0000"', '"\\ud800"', '"\\UFFFFFFFF"', "'")
    ),
    lambda rng: str(_value(rng)),
    _deep,
    _laughs,
)


def _change_text(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(9)
    if kind == 0:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif kind == 1:
        del lines[at]
    elif kind == 2:
        lines[at] = rng.choice((" ", "\t", "   ", "- ")) + lines[at]
    elif kind == 3:
        lines.insert(at, rng.choice(_SNIPPETS)(rng))
    elif kind == 4 and ":" in lines[at]:
        lines[at] = f"{lines[at].split(':')[0]}: {rng.choice(_SNIPPETS)(rng)}"
    elif kind == 5:
        return text[: rng.randrange(len(text) + 1)]
    elif kind == 6:
        lines.insert(at, f"{rng.choice(_WORDS)}: {rng.choice(_SNIPPETS)(rng)}")
    else:
        where = rng.randrange(len(text) + 1)
        middle = "".join(rng.choice(_ALPHABET) for _ in range(rng.choice((1, 1, 1, 3, 20))))
        return text[:where] + middle + text[where + rng.randrange(3) :]
    return "\n".join(lines)


def _encoded(rng: random.Random, text: str) -> tuple[str, bytes]:
    kind = rng.randrange(9)
    if kind == 0:
        return "bom", b"\xef\xbb\xbf" * rng.choice((1, 1, 2)) + text.encode()
    if kind == 1:
        return "utf-16", text.encode("utf-16")
    if kind == 2:
        return "latin-1", text.replace("name", "näme").encode("latin-1", "replace")
    if kind == 3:
        return "crlf", text.replace("\n", rng.choice(("\r\n", "\r", "\n\r"))).encode()
    if kind == 4:
        return "tabs", text.replace("  ", "\t").encode()
    data = bytearray(text.encode())
    for _ in range(rng.choice((1, 2, 10))):
        at = rng.randrange(len(data) + 1)
        if kind == 5 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        else:
            data[at:at] = bytes([rng.choice((0, 1, 9, 27, 127, 128, 192, 255))])
    return "bytes", bytes(data)


def _any_text(rng: random.Random) -> tuple[str, bytes]:
    kind = rng.randrange(6)
    if kind == 0:
        return "random bytes", rng.randbytes(rng.choice((0, 1, 10, 1000) * 9 + (100_000,)))
    if kind == 1:
        return "empty", rng.choice(
            (b"", b"\n", b"# nothing", b"---\n", b"...", b"\xff\xfe", b"null", b"[]", b"{}", b"5")
        )
    if kind == 2:
        return "many keys", "\n".join(
            f"k{i}: {i}" for i in range(rng.choice((1, 10, 50) * 20 + (3000, 25_000)))
        ).encode()
    if kind == 3:
        return "one long line", (
            rng.choice(("a", "a ", "- ", "[", "'", "#", "&", "a: ")) * rng.choice((9, 99, 999) * 20 + (99_999, 999_999))
        ).encode()
    if kind == 4:
        return "snippets", "\n".join(rng.choice(_SNIPPETS)(rng) for _ in range(rng.randrange(1, 5))).encode()
    return "random text", "".join(rng.choice(_ALPHABET) for _ in range(rng.randrange(400))).encode()


class OptionsFiles:
    """Options as `mvmsr train -opt FILE --dry-run` reads them, up to the building of networks."""

    name = "options"

    def __init__(self) -> None:
        from mvmsr.cli.train_nmd import command  # noqa: F401 -- what the command would import is imported before
        from mvmsr.config import OptionsError
        from mvmsr.engine.check import check
        from mvmsr.registry import ARCHS, DATASETS, LOSSES, RegistryError

        assert check is not None
        for registry in (ARCHS, LOSSES, DATASETS):
            with contextlib.suppress(RegistryError):
                registry.get("nothing")  # imports all that there is
        self.refusals = (OptionsError,)
        files = sorted((ROOT / "options").rglob("*.yml")) + sorted((ROOT / "tests/basicsr_options").glob("*.yml"))
        self.texts = [re.sub(r" *#.*", "", file.read_text(encoding="utf-8")) for file in files]  # comments take time
        self.texts.append(
            (ROOT / "tests/config/conftest.py").read_text(encoding="utf-8").split('"""\\\n')[1].split('"""')[0]
        )
        self.trees = [yaml.load(text, Loader=_Loader) for text in self.texts]

    def make(self, rng: random.Random, canary: Path) -> Case:
        """Three in ten by their values, three by their text, two by their bytes, and two from nothing."""
        kind = rng.choices(("tree", "text", "encoding", "any"), (35, 35, 15, 15))[0]
        at = len(self.texts) - 1 if rng.random() < 0.85 else rng.randrange(len(self.texts))  # the last is the smallest
        if kind == "any":
            label, data = _any_text(rng)
        elif kind == "tree":
            label, tree = "values", yaml.load(yaml.dump(self.trees[at], Dumper=_Dumper), Loader=_Loader)
            for _ in range(rng.randrange(4)):
                _change_tree(rng, tree)
            data = yaml.dump(
                tree, Dumper=_Dumper, allow_unicode=True, default_flow_style=rng.choice((None, True, False))
            ).encode()
        else:
            label, text = "text", self.texts[at]
            for _ in range(rng.randrange(1, 4)):
                text = _change_text(rng, text)
            data = text.encode("utf-8", "surrogatepass")
            if kind == "encoding":
                label, data = _encoded(rng, self.texts[at])
        return Case(f"{kind}: {label}", ".yml", data.replace(b"canary", str(canary).encode()))

    def read(self, path: Path) -> str:
        """Parsed, validated and checked against the constructors that it names."""
        from mvmsr.config import TrainOptions
        from mvmsr.config.load import validate
        from mvmsr.config.nmd_options import NMDOptions, load_nmd
        from mvmsr.config.yaml_source import read_yaml
        from mvmsr.engine.check import check
        from mvmsr.engine.run_dir import require_free_run_dir

        values, source = read_yaml(path)  # the command asks first whether the file trains a discriminator
        if values.get("task") == "nmd":
            nmd = load_nmd(path)
            if not isinstance(nmd, NMDOptions):
                raise Finding(f"load_nmd gives {type(nmd)}")
            return "valid"
        options = validate(values, source)  # with `read_yaml`, what `load` does
        if not isinstance(options, TrainOptions):
            raise Finding(f"validate gives {type(options)}")
        check(options)
        run = require_free_run_dir(options, resume=True)
        if run.root.resolve().parent != Path(options.path.experiments_root).resolve():
            raise Finding("the run leaves its folder")
        return "valid"
