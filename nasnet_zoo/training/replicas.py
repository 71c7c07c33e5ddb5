"""Training on several devices and machines, by `tf.distribute`.

Keras's `fit` knows `tf.distribute`, but clips the gradients of every replica before it adds them up,
and fails on several machines (keras-team/keras, issue 20585). `ReplicatedModel` replaces its steps;
epochs, callbacks, evaluation and progress stay those of `fit`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from nasnet_zoo.files import parse_json
from nasnet_zoo.quiet import quiet_stderr

from .recipes import RunSettings, StrategyName

_STRATEGIES: dict[str, type[tf.distribute.Strategy]] = {
    "mirrored": tf.distribute.MirroredStrategy,
    "multiworker": tf.distribute.MultiWorkerMirroredStrategy,
}
#: An example of ``TF_CONFIG``.
_CLUSTER = {
    "cluster": {"worker": ["host1:12345", "host2:12345"]},
    "task": {"type": "worker", "index": 0},
}


def open_strategy(name: StrategyName | None, run: RunSettings) -> tf.distribute.Strategy:
    """Make the strategy of a run.

    Args:
        name: "mirrored": a replica on each GPU of this machine, or without GPUs on each logical CPU.
            "multiworker": the same on every machine that the environment variable ``TF_CONFIG`` lists,
            after all of them have started. None: TensorFlow's default, which changes nothing.
        run: The run, whose batches are divided among the replicas.

    Raises:
        ValueError: If Keras has another backend, ``TF_CONFIG`` is missing or malformed, or TensorFlow
            has computed something in this process before "multiworker"; if the replicas cannot
            divide a batch evenly, or the run has more than one step in an execution.
    """
    if name is None:
        return tf.distribute.get_strategy()
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(f"Expected the TensorFlow backend for strategy={name!r}. Received: {backend}")
    if run.steps_per_execution > 1:
        raise ValueError(
            f"Expected run.steps_per_execution=1 with strategy={name!r}. "
            f"Received: run.steps_per_execution={run.steps_per_execution}"
        )
    if name == "multiworker":
        _check_cluster(os.environ.get("TF_CONFIG", ""))
    try:
        with quiet_stderr():
            strategy = _STRATEGIES[name]()
    except RuntimeError as error:
        raise ValueError(
            f"Expected a process in which TensorFlow has computed nothing yet, for strategy={name!r}. "
            f"Received: {error}"
        ) from None
    replicas = strategy.num_replicas_in_sync
    if run.batch_size % replicas:
        raise ValueError(
            f"Expected run.batch_size: a multiple of {replicas}, the number of replicas. "
            f"Received: run.batch_size={run.batch_size}"
        )
    return strategy


def _check_cluster(text: str) -> None:
    """Check ``TF_CONFIG``, since TensorFlow waits for the machines of one that cannot be meant."""
    expected = (
        f"Expected the environment variable TF_CONFIG like {json.dumps(_CLUSTER)}, where the index is "
        "this process's place among the workers"
    )
    config = parse_json(text, expected)
    try:
        task, cluster = config["task"], config["cluster"]
        fits = (
            set(cluster) <= {"chief", "worker"}
            and task["index"] in range(len(cluster[task["type"]]))
            and all(
                isinstance(host, str) and ":" in host for hosts in cluster.values() for host in hosts
            )
        )
    except (AttributeError, KeyError, TypeError):
        fits = False
    if not fits:
        raise ValueError(f"{expected}. Received: {text}")


def distributed(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> Any:
    """Divide every batch among the replicas, in order.

    Every machine makes whole batches and takes its share, so that the examples of a step are the same
    on any number of machines.
    """
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return strategy.experimental_distribute_dataset(batches.with_options(options))


class ReplicatedModel(keras.Model):
    """A model whose training and test steps are computed by all replicas of a strategy.

    Its `fit` and `evaluate` take data sets of `distributed`. Create it outside of the strategy's scope,
    where Keras's own treatment of strategies stays away.

    Args:
        network: Functional model that was built in the strategy's scope.
        strategy: The strategy.
    """

    train_function: Any
    test_function: Any

    def __init__(self, network: keras.Model, strategy: tf.distribute.Strategy) -> None:
        super().__init__(network.input, network.output, name=network.name)
        self.strategy = strategy

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the model as in Keras."""
        with self.strategy.scope():
            super().compile(*args, **kwargs)
            # Keras creates the metrics of losses in their first use. In the graph of a step, that
            # fails; outside of one, TensorFlow warns that it is slow.
            zeros = tf.nest.map_structure(lambda x: tf.zeros((1, *x.shape[1:]), x.dtype), self.output)
            with quiet_stderr():
                self.strategy.run(self.compute_loss, (None, zeros, zeros))

    def train_step(self, data: Any) -> dict[str, Any]:
        """Train on a replica's part of a batch."""
        images, labels = data
        replica = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            predicted = self(images, training=True)
            loss = self.compute_loss(images, labels, predicted)  # Divided by the number of replicas.
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_variables)
        # The optimizer clips what it gets and then adds up that of all replicas. To clip the sum, one
        # replica gives all of it.
        gradients = replica.all_reduce("SUM", gradients)
        gives = tf.cast(replica.replica_id_in_sync_group == 0, self.variable_dtype)
        self.optimizer.apply([gives * summed for summed in gradients], self.trainable_variables)
        self.metrics[0].update_state(
            loss * replica.num_replicas_in_sync, sample_weight=tf.shape(images)[0]
        )
        return self.compute_metrics(images, labels, predicted)

    def test_step(self, data: Any) -> None:
        """Test on a replica's part of a batch, which may have no images if the batch is a small one."""

        def tested() -> bool:
            super(ReplicatedModel, self).test_step(data)
            return True

        tf.cond(tf.shape(data[0])[0] > 0, tested, lambda: False)

    def make_train_function(self, force: bool = False) -> None:
        """See Keras."""
        if self.train_function is None or force:
            self.train_function = self._on_replicas(self.train_step)

    def make_test_function(self, force: bool = False) -> None:
        """See Keras."""
        if self.test_function is None or force:
            self.test_function = self._on_replicas(self.test_step)

    def _on_replicas(self, step: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
        @tf.function
        def function(batches: Any) -> dict[str, Any]:
            self.strategy.run(step, (next(batches),))
            return self.get_metrics_result()  # Outside of replicas: of the whole batch.

        return function


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one whose files and messages are kept."""
    cluster = strategy.cluster_resolver
    return cluster is None or (cluster.task_type, cluster.task_id) == (
        ("chief", 0) if "chief" in cluster.cluster_spec().jobs else ("worker", 0)
    )


@contextmanager
def claimed_by_all(
    folder: Path,
    strategy: tf.distribute.Strategy,
    claim: Callable[[Path], AbstractContextManager[None]],
) -> Iterator[Path]:
    """Claim the folder of a run for all workers of a strategy, one of which writes to it.

    Args:
        folder: Folder that all workers see.
        strategy: Strategy of the run.
        claim: Function from a folder to a context in which this process holds the folder.

    Yields:
        The folder that this process works in: ``folder`` for the chief, a temporary copy for others.

    Raises:
        ValueError: If a worker sees other files than the chief.
        ConnectionError: If another worker ends in the block.
    """
    try:
        with _claimed(folder, strategy, claim) as own:
            yield own
    except tf.errors.OpError as error:
        if strategy.cluster_resolver is None or "Collective ops is aborted" not in error.message:
            raise
        reason = error.message.partition("aborted by: ")[2].splitlines()[0]
        raise ConnectionError(
            f"Expected all workers of TF_CONFIG to go on. Received: {reason}"
        ) from None


@contextmanager
def _claimed(
    folder: Path,
    strategy: tf.distribute.Strategy,
    claim: Callable[[Path], AbstractContextManager[None]],
) -> Iterator[Path]:
    if is_chief(strategy):
        with claim(folder):
            if strategy.cluster_resolver is not None:
                _check_shared(folder, strategy)
            yield folder
    else:
        with tempfile.TemporaryDirectory() as name:
            _check_shared(folder, strategy)
            copy = Path(name) / folder.name
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".*", "tensorboard"))
            with claim(copy):
                yield copy


def _check_shared(folder: Path, strategy: tf.distribute.Strategy) -> None:
    """Check, when the chief has claimed a folder, that all workers see the same run in it."""

    @tf.function
    def total(number: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(tf.identity, (number,)), axis=None)

    total(tf.constant(0, tf.int64))  # All workers wait for the chief.
    seen = 0
    for path in sorted(folder.glob("[!.]*.*")):
        seen = zlib.crc32(path.read_bytes(), seen)
    if int(total(tf.constant(seen, tf.int64))) != seen * strategy.num_replicas_in_sync:
        raise ValueError(
            f"{folder}: expected a folder that all workers share. Received: other files on another "
            "worker"
        )
