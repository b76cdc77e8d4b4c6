"""What holds for all tests."""

import os

# Small matrices gain nothing from threads, and lose a hundredfold where workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_configure(config):
    # scikit-learn 1.6 hands scipy options that scipy has deprecated since; remove when it is 1.7.
    config.addinivalue_line(
        "filterwarnings", "ignore:scipy.optimize. The .disp. and .iprint.:DeprecationWarning"
    )
