"""Names become classes: what is accepted, what is refused, and where unknown names go."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from mvmsr import basicsr_shim
from mvmsr.registry import ARCHS, Registry, RegistryError, did_you_mean

needs_basicsr = pytest.mark.skipif(basicsr_shim.import_basicsr() is None, reason="BasicSR is not installed")


@pytest.fixture
def registry() -> Registry:
    return Registry("thing", "mvmsr")  # importing `mvmsr` registers nothing


@pytest.fixture
def without_basicsr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basicsr_shim, "import_basicsr", lambda module="basicsr": None)


def test_a_class_is_found_by_its_own_or_a_given_name(registry):
    @registry.register()
    class Wheel:
        pass

    @registry.register("axle")
    class Shaft:
        pass

    assert registry.get("Wheel") is Wheel
    assert registry.get("axle") is Shaft
    assert registry.names() == ["Wheel", "axle"]
    assert "axle" in registry
    assert "Shaft" not in registry


def test_a_second_class_of_one_name_is_refused_and_the_first_stays(registry):
    @registry.register("wheel")
    class First:
        pass

    with pytest.raises(RegistryError, match=r"thing 'wheel' is registered already, by .*test_registry"):

        @registry.register("wheel")
        class Second:
            pass

    assert registry.get("wheel") is First
    assert registry.names() == ["wheel"]


@pytest.mark.parametrize("signature", ["**kwargs", "*args"])
def test_constructors_that_swallow_misspelt_options_are_refused(registry, signature):
    namespace: dict = {}
    exec(f"class Greedy:\n    def __init__(self, {signature}): pass", namespace)
    with pytest.raises(RegistryError, match=r"'Greedy': its constructor takes `\*+\w+`.*name every argument"):
        registry.register()(namespace["Greedy"])
    assert registry.names() == []


def test_an_unknown_name_lists_the_known_ones_and_the_closest(registry):
    for name in ("Wheel", "Axle"):
        registry.register(name)(type(name, (), {}))
    with pytest.raises(RegistryError) as caught:
        registry.get("wheal")
    assert str(caught.value) == "unknown thing 'wheal'. Did you mean 'Wheel'? Known: Axle, Wheel."
    with pytest.raises(RegistryError) as caught:
        registry.get("quux")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("srresnet", " Did you mean 'SRResNet'?"), ("RND", " Did you mean 'RDN'?"), ("Transformer", "")],
)
def test_did_you_mean(name, hint):
    assert did_you_mean(name, ["SRResNet", "RDN"]) == hint


@needs_basicsr
@pytest.mark.parametrize("name", ["RRDBNet", "EDSR", "RCAN", "VGGStyleDiscriminator"])
def test_unknown_networks_come_from_basicsr(name):
    assert name not in ARCHS.names()
    found = ARCHS.get(name)
    assert found.__name__ == name
    assert found.__module__.startswith("basicsr.")


@needs_basicsr
def test_our_own_network_is_preferred_to_basicsrs_of_the_same_name():
    assert basicsr_shim.find("ARCH_REGISTRY", "MSRResNet") is not None
    assert ARCHS.get("MSRResNet").__module__ == "mvmsr.archs.msrresnet"


@needs_basicsr
def test_the_message_for_an_unknown_network_lists_basicsrs_too():
    with pytest.raises(RegistryError, match=r"Did you mean 'RRDBNet'\? .*Known: .*SRResNet.* BasicSR's.*RRDBNet"):
        ARCHS.get("RRDBnett")


@pytest.mark.usefixtures("without_basicsr")
def test_without_basicsr_its_names_are_simply_unknown():
    with pytest.raises(RegistryError, match="unknown network 'RRDBNet'") as caught:
        ARCHS.get("RRDBNet")
    assert "BasicSR" not in str(caught.value)
    assert ARCHS.get("SRResNet").__name__ == "SRResNet"


@pytest.mark.parametrize("statement", ["import mvmsr", "import mvmsr.registry"])
def test_importing_is_quick_because_torch_stays_out(statement):
    program = f"{statement}; import sys; print([m for m in ('torch', 'numpy', 'basicsr') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_a_name_is_found_under_basicsrs_suffix(monkeypatch):
    entries = SimpleNamespace(_obj_map={"Plain": int, "Compact_basicsr": float})
    monkeypatch.setattr(basicsr_shim, "_registry", lambda registry: entries)
    assert basicsr_shim.find("ARCH_REGISTRY", "Plain") is int
    assert basicsr_shim.find("ARCH_REGISTRY", "Compact") is float
    assert basicsr_shim.find("ARCH_REGISTRY", "Compac") is None
