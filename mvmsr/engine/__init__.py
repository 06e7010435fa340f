"""Training: options become objects, objects take steps, and a run directory keeps what comes of it."""
