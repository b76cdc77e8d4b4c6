"""Mathematics on the unit cube: numpy and scipy only, no estimator."""
