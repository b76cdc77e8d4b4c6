"""What holds for all tests."""

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

# Small matrices gain nothing from threads, and lose a hundredfold where workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_configure(config):
    # scikit-learn 1.6 hands scipy options that scipy has deprecated since; remove when it is 1.7.
    config.addinivalue_line(
        "filterwarnings", "ignore:scipy.optimize. The .disp. and .iprint.:DeprecationWarning"
    )


@pytest.fixture
def memory_group():
    """Make control groups of so many bytes of memory: who is in one and wants more is killed."""
    with ExitStack() as ends:

        def make(n_bytes):
            group = Path("/sys/fs/cgroup/memory") / f"tunein-{os.getpid()}"
            try:
                group.mkdir()
                ends.callback(remove, group)
                (group / "memory.limit_in_bytes").write_text(str(n_bytes))
            except OSError as error:
                pytest.skip(f"no control group can be made here: {error}")
            return group

        yield make


def remove(group):
    for _ in range(300):
        try:
            group.rmdir()
            break
        except OSError:  # what was in it has not quite ended
            time.sleep(0.1)
