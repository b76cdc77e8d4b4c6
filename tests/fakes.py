"""Small estimators, scorers and callbacks for the tests; importable by worker processes."""

from __future__ import annotations

import json
import pickle
import zlib
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # remove when sklearn >= 1.9

    class CallbackSupportMixin:
        pass

    def with_callbacks(method):
        return method


class Refusal(Exception):
    """What a fake raises on purpose, and nothing else does."""


class Cutoff(ClassifierMixin, BaseEstimator):
    """Says 1 where the first feature is above `cut`; costs nothing to fit.

    Refuses to fit with ``fail="fit"``, to predict with ``fail="predict"``, and to fit on folds
    without the first sample, which has the largest second feature, with ``fail="some"``.
    """

    def __init__(self, cut=0.0, fail=None):
        self.cut = cut
        self.fail = fail

    def fit(self, X, y, sample_weight=None):
        if self.fail == "fit" or (self.fail == "some" and np.max(X[:, 1]) < 100):
            raise Refusal(f"cannot fit with cut={self.cut!r}")
        self.classes_ = np.unique(y)
        self.n_features_in_ = X.shape[1]
        return self

    def decision_function(self, X):
        return X[:, 0] - self.cut

    def predict(self, X):
        if self.fail == "predict":
            raise Refusal(f"cannot predict with cut={self.cut!r}")
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


class FoldPrint(BaseEstimator):
    """Scores with a fingerprint of what it was trained on: equal scores mean equal folds."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y=None):
        self.print_ = zlib.crc32(np.ascontiguousarray(X).tobytes())
        return self

    def score(self, X, y=None):
        return float(self.print_)


class Weighed(BaseEstimator):
    """Scores the weight it was trained with, and 1000 times that of the test set."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y=None, sample_weight=None, bonus=None):
        self.seen_ = 0.0 if sample_weight is None else float(np.sum(sample_weight))
        self.seen_ += 0.0 if bonus is None else float(np.max(bonus))
        return self

    def score(self, X, y=None, sample_weight=None):
        return self.seen_ + 1000 * (0.0 if sample_weight is None else float(np.sum(sample_weight)))


class Named(BaseEstimator):
    """Scores how many named columns it was trained on."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y=None):
        self.names_ = list(getattr(X, "columns", []))
        return self

    def score(self, X, y=None):
        return float(len(self.names_))


class Interrupting(BaseEstimator):
    """Acts as if somebody pressed Ctrl-C in the third candidate."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y=None):
        if self.a == 2:
            raise KeyboardInterrupt("on purpose")
        return self

    def score(self, X, y=None):
        return float(self.a)


class Needle(BaseEstimator):
    """Two metrics that want opposite ends of `x`."""

    def __init__(self, x=0.5):
        self.x = x

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        return np.full(len(X), self.x)


def high(estimator, X, y=None):
    return estimator.x


def low(estimator, X, y=None):
    return -estimator.x


def high_and_low(estimator, X, y=None):
    return {"high": estimator.x, "low": -estimator.x}


def low_and_high(estimator, X, y=None):
    return {"low": -estimator.x, "high": estimator.x}


def accuracy_alone(estimator, X, y):
    return float(np.mean(estimator.predict(X) == y))


def hits_and_share(estimator, X, y):
    predicted = estimator.predict(X)
    return {"hits": float(np.mean(predicted == y)), "share": float(np.mean(predicted))}


def first_of_best_three(results):
    name = next(key for key in results if key.startswith("rank_test_"))
    return int(np.flatnonzero(results[name] <= 3)[0])


class Steps(CallbackSupportMixin, BaseEstimator):
    """Fits in `n_steps` tasks that callbacks see, each with a fitted estimator."""

    def __init__(self, n_steps=2, a=0.0):
        self.n_steps = n_steps
        self.a = a

    @with_callbacks
    def fit(self, X, y=None, sample_weight=None):
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"X": X, "y": y, "metadata": metadata}
        context = self._init_callback_context(max_subtasks=self.n_steps)
        context.call_on_fit_task_begin(estimator=self, **data)
        for i in range(self.n_steps):
            step = context.subcontext(task_name=f"step {i}")
            step.call_on_fit_task_begin(estimator=self, **data)
            step.call_on_fit_task_end(
                estimator=self, reconstruction_attributes={"done_": i + 1}, **data
            )
        self.done_ = self.n_steps
        context.call_on_fit_task_end(
            estimator=self, reconstruction_attributes={"done_": self.n_steps}, **data
        )
        return self

    def predict(self, X):
        return np.full(len(X), self.a + self.done_)

    def score(self, X, y=None, sample_weight=None):
        return float(self.a + self.done_)


class Diary:
    """A callback that writes a line for each hook into a file, from whatever process it is in.

    It stays with the estimator it is set on; a `TravellingDiary` goes to the inner ones too.
    """

    def __init__(self, path):
        self.path = str(path)

    def setup(self, estimator, context):
        self._write("setup", estimator, context)

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self._write("begin", estimator, context, X=X, y=y, metadata=metadata)

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self._write("end", estimator, context, X=X, y=y, metadata=metadata)

    def teardown(self, estimator, context):
        self._write("teardown", estimator, context)

    def _write(self, hook, estimator, context, X=None, y=None, metadata=None):
        path, source = [], context
        while source is not None:
            path.insert(0, [source.task_name, source.task_id, source.max_subtasks])
            source = source.parent
        weight = (metadata or {}).get("sample_weight")
        line = {
            "hook": hook,
            "estimator": type(estimator).__name__,
            "task": context.task_name,
            "path": path,
            "source": context.source_task_name,
            "data": [None if data is None else len(data) for data in (X, y)],
            "weight": None if weight is None else len(weight),
        }
        with Path(self.path).open("a") as file:  # short lines are appended whole
            file.write(json.dumps(line) + "\n")

    def lines(self):
        path = Path(self.path)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class TravellingDiary(Diary):
    max_propagation_depth = None


class WeighingDiary(Diary):
    """Writes down how many bytes the estimator has that a task is told of."""

    def on_fit_task_begin(self, estimator, context):
        with Path(self.path).open("a") as file:
            file.write(json.dumps([context.task_name, len(pickle.dumps(estimator))]) + "\n")

    def on_fit_task_end(self, estimator, context):
        pass

    def _write(self, hook, estimator, context, **data):
        pass


class StoppingDiary(Diary):
    """Asks every task to stop, which a search has no reason to obey."""

    def on_fit_task_end(self, estimator, context):
        super().on_fit_task_end(estimator, context)
        return True


class StumblingDiary(Diary):
    """Fails at one hook of one task."""

    def __init__(self, path, hook, task):
        super().__init__(path)
        self.hook = hook
        self.task = task

    def _write(self, hook, estimator, context, **data):
        super()._write(hook, estimator, context, **data)
        if (hook, context.task_name) == (self.hook, self.task):
            raise Refusal(f"cannot {hook} {context.task_name}")


class Levelled(BaseEstimator):
    """Scores its level, plus what its one test row says of the fold, plus noise of its own."""

    def __init__(self, level=0.0, noise=0.0, fail_on=None):
        self.level = level
        self.noise = noise
        self.fail_on = fail_on

    def fit(self, X, y=None):
        if self.fail_on is not None and self.fail_on not in X[:, 0]:
            raise Refusal(f"cannot do without row {self.fail_on}")
        return self

    def score(self, X, y=None):
        seed = zlib.crc32(f"{self.level!r} {X[0, 0]!r}".encode())
        return self.level + np.sin(X[0, 0]) + self.noise * np.random.default_rng(seed).normal()


def level_and_opposite(estimator, X, y=None):
    return {"good": estimator.score(X), "bad": -estimator.score(X)}
