"""A page in the browser on which people enlarge a picture; `mvmsr web` serves it."""
