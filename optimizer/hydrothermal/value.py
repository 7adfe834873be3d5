"""What water left at the end is worth: the largest of some cuts, and a floor.

θ(v) = max(floor, max_c intercept_c + slope_c · v), a convex function that costs less where there is more water.
"""

# B batch, C cut, R reservoir

from dataclasses import dataclass

import numpy as np

from optimizer.hydrothermal.case import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class ValueCuts:
    """Hold cuts of a cost to go.

    Attributes:
        intercept: float64 [C], cost at volume zero.
        slope: float64 [C, R], cost per unit of volume (water values with a minus).
        floor: least cost to go; 0 is valid where costs are never negative.
    """

    intercept: Floats
    slope: Floats
    floor: float = 0.0

    def evaluate(self, volume_BR: Floats) -> Floats:
        """Return θ, float64 [B].

        >>> cuts = ValueCuts(intercept=np.array([9.0, 5.0]), slope=np.array([[-2.0], [-0.5]]))
        >>> cuts.evaluate(np.array([[0.0], [3.0], [20.0]])).tolist()
        [9.0, 3.5, 0.0]
        """
        if not self.intercept.size:
            return np.full(len(volume_BR), self.floor)
        highest_B: Floats = np.maximum((self.intercept + volume_BR @ self.slope.T).max(axis=1), self.floor)
        return highest_B
