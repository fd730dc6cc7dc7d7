"""Records as JSON and YAML hold them."""

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any


def plain_data(value: Any) -> Any:
    """Enums by value, tuples as lists, null for a number that is not finite, which JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain_data(each) for each in value]
    if isinstance(value, Enum):
        return plain_data(value.value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
