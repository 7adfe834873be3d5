"""An autoregression of the small case's four inflows."""

import numpy as np

from optimizer.hydrothermal.inflow import InflowAutoregression


def remembering_process() -> InflowAutoregression:
    """Return a process of three periods with correlated noise."""
    generator = np.random.default_rng(11)
    median = np.array([6.0, 3.0, 1.5, 2.0]) * generator.uniform(0.6, 1.4, (3, 4))
    spread = generator.uniform(-0.3, 0.3, (3, 4, 4))
    covariance = spread @ spread.transpose(0, 2, 1) + 0.02 * np.eye(4)
    return InflowAutoregression(
        initial=median[0], median=median, persistence=generator.uniform(0.4, 0.9, (3, 4)), covariance=covariance
    )
