"""mvmsr: train, benchmark and use x4 super-resolution models; home of manifold matching."""

__version__ = "0.1.0"
