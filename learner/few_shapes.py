"""Sizes rounded up, so that products of matrices are of few shapes.

For each shape it meets on a CPU oneDNN makes code anew, in some .2 ms and half a megabyte, of which it keeps the newest
thousand: where sizes follow from how long the replies of a step happen to be, a tenth of what PPO of the built-in
policy costs.
"""

import torch.nn.functional as F
from torch import Tensor


def rounded_up(count: int, digits: int = 4) -> int:
    """The next number of so many significant binary digits."""
    return count + -count % (1 << max(0, count.bit_length() - digits))


def rounded_down(count: int, digits: int = 4) -> int:
    """The last such number."""
    return count - count % (1 << max(0, count.bit_length() - digits))


def with_rows_to_spare(values_N_D: Tensor) -> Tensor:
    """On a CPU with a few rows of zeros at the end, elsewhere as it is."""
    count = len(values_N_D)
    return F.pad(values_N_D, (0, 0, 0, rounded_up(count) - count)) if values_N_D.device.type == "cpu" else values_N_D
