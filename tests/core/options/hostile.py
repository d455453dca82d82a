"""Values that no option of any method means, and words that no option reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

NEVER: dict[str, Any] = {
    "not a number": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "huge": 1e30,
    "huge and negative": -1e30,
    "huge integer": 10**30,
    "an integer no float holds": 10**400,
    "an integer nobody can print": 10**5000,
    "negative": -3,
    "numpy, not a number": np.float32("nan"),
    "numpy, negative": np.int64(-3),
    "empty text": "",
    "text": "few",
    "a number as text": "0.5",
    "a boolean as text": "true",
    "bytes": b"1",
    "empty list": [],
    "empty tuple": (),
    "list of texts": ["a"],
    "list of nothing": [None],
    "list of booleans": [True],
    "list of lists": [[1]],
    "list with what is not a number": [0.5, math.nan],
    "list with itself": (own := [1]),
    "falling layers or growing shares": [-1, 2],
    "mapping": {},
    "set": {1},
    "object": object(),
    "class": int,
    "complex": 1j,
    "tensor": torch.tensor(0.5),
    "tensor of one": torch.tensor([1]),
    "tensor of several": torch.tensor([0.5, 0.6]),
    "array": np.array(0.5),
    "array of several": np.array([1, 2]),
    "list of tensors": [torch.tensor(1)],
}
own.append(own)

SOMETIMES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "2.5": 2.5,
    "a half": 0.5,
    "list of numbers": [1, 2],
    "list of halves": [0.5],
}
"""Right for some, wrong for others."""

WORDS = ("", " ", "nan", "inf", "-inf", "1e30", "-3", "few", "[]", "()", "[1", "[[1]]", "{}", "1,,2", "0x1", "1_0", "½")
