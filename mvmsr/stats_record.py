"""The lines of a run's `stats.jsonl`."""

from __future__ import annotations

import json
from typing import Any


def parse_record(line: bytes) -> dict[str, Any] | None:
    """A line's record, which has an `iter`; None where the line is damaged or cut off."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("iter"), int) else None
