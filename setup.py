"""Package definition; `make install` installs it with its development tools into `.venv`."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (ROOT / "mvmsr/__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

BROWSER = ["playwright>=1.40"]
WEB = ["gradio>=6.31,<7"]
ONNX = ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.1"]

setup(
    name="mvmsr",
    version=VERSION,
    description="Train, benchmark and use x4 super-resolution models; home of manifold matching (MvM)",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["mvmsr", "mvmsr.*"]),
    package_data={
        "mvmsr": [
            "py.typed",
            "**/*.html",
            "**/*.css",
            "**/*.js",
            "**/*.json",
            "**/*.yml",
            "**/*.safetensors",
            "**/*.npz",
            "**/*.txt",
        ]
    },
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "lightning-fabric>=2.4",
        "pydantic>=2.7",
        "pyyaml>=6.0",
        "opencv-python>=4.9",
        "numpy>=1.26",
        "scipy>=1.11",
        "pillow>=10.3",
        "safetensors>=0.4.3",
        "spandrel>=0.4",
        "lpips>=0.1.4",
        "pyiqa>=0.1.13",
        "stlpips-pytorch>=0.0.2",
        'basicsr>=1.4.2; python_version < "3.13"',
        "rich>=13.7",
        "typer>=0.19",
        "matplotlib>=3.8",
        "tensorboard>=2.16",
        "jinja2>=3.1",
        "scikit-image>=0.22",
        "tifffile>=2024.5.22",
    ],
    extras_require={
        "dev": [
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "mypy>=1.10",
            "hypothesis>=6.100",
            *BROWSER,
            *WEB,
            *ONNX,
        ],
        "browser": BROWSER,
        "web": WEB,
        "onnx": ONNX,
    },
    entry_points={"console_scripts": ["mvmsr = mvmsr.cli:main"]},
)
