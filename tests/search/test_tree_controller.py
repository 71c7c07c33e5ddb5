import numpy as np
import pytest
import tensorflow as tf
from evaluators import Function, experiences

from nasnet_zoo.cells import TREECELL_A, TREECELL_B
from nasnet_zoo.search import (
    POLICIES,
    Journal,
    RandomSearch,
    Result,
    Serial,
    Synchronous,
    TreeCellSpace,
    TreeController,
    run_search,
)

pytestmark = pytest.mark.tensorflow

SPACE = TreeCellSpace()
TINY = TreeCellSpace(edges=("sep3",), depth=2)


def drawn(space, count, seed=0):
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(count)]


# === A plain recursive reference ===


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Reference:
    """The published formulas, one node of one tree after the other, in float64."""

    def __init__(self, controller):
        self.w = {weight.name: np.array(weight, np.float64) for weight in controller.weights}
        self.u = controller.units
        self.tokens = ["pad", *("identity", "conv1", "conv3", "gconv3", "sep3", "sep5", "sep7")]
        self.tokens += ["avg3", "max3"]
        self.types = [None, ("add", "copy"), ("concat", "split"), ("concat", "copy")]

    def edge(self, name, layer, state):
        h, c = state
        read = self.w["edges"][self.tokens.index(layer or "pad")]
        gates = np.concatenate([read, h]) @ self.w[f"{name}_edge_kernel"] + self.w[f"{name}_edge_bias"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    def node(self, name, node, children, parent=None):
        """Children and parent are pairs (h, c)."""
        if node.merge is None:
            return children[0] if parent is None else parent
        u, w = self.u, self.w
        x = w["nodes"][self.types.index((node.merge, node.allocation))]
        read = x @ w[f"{name}_node_read"] + w[f"{name}_node_bias"]
        read_iou, read_f = read[: 3 * u], read[3 * u :]
        hs = [h for h, _ in children]
        above = [] if parent is None else [parent[0]]
        if node.merge == "add":
            kernel = w[f"{name}_node_added"]
            iou = np.concatenate([*above, sum(hs)]) @ kernel[:, : 3 * u]
            fs = [np.concatenate([*above, h]) @ w[f"{name}_node_kept"] for h in hs]
            f_parent = np.concatenate([*above, sum(hs)]) @ kernel[:, 3 * u :]
        else:
            kernel, joined = w[f"{name}_node_ordered"], np.concatenate([*above, *hs])
            iou, f1, f2, f_parent = np.split(joined @ kernel, [3 * u, 4 * u, 5 * u])
            fs = [f1, f2]
        i, o, new = np.split(read_iou + iou, 3)
        c = sigmoid(i) * np.tanh(new)
        c = c + sum(sigmoid(read_f + f) * c_k for f, (_, c_k) in zip(fs, children, strict=True))
        if parent is not None:
            c = c + sigmoid(read_f + f_parent) * parent[1]
        return sigmoid(o) * np.tanh(c), c

    def up(self, node):
        zero = (np.zeros(self.u), np.zeros(self.u))
        state = self.node("up", node, [self.up(child) for child in node.children] or [zero])
        return self.edge("up", node.edge, state)

    def down(self, root, path):
        state, node = (np.zeros(self.u), np.zeros(self.u)), root
        for number in path:
            children = [self.up(child) for child in node.children]
            children[number] = (np.zeros(self.u), np.zeros(self.u))
            state = self.node("down", node, children, state)
            node = node.children[number]
            state = self.edge("down", node.edge, state)
        return state

    def probabilities(self, growth):
        """Of the choices of the next decision."""
        kind, path = growth.decision
        node = growth.root
        for number in path:
            node = node.children[number]
        state = np.concatenate([self.up(node)[0], self.down(growth.root, path)[0]])
        w = self.w
        hidden = np.maximum(state @ w[f"{kind}_hidden_kernel"] + w[f"{kind}_hidden_bias"], 0)
        logits = hidden @ w[f"{kind}_kernel"] + w[f"{kind}_bias"]
        if kind == "expand":
            return np.array([1 - sigmoid(logits[0]), sigmoid(logits[0])])
        return np.exp(logits) / np.exp(logits).sum()

    def of(self, space, actions):
        """Log-probabilities and entropies of a child's draws."""
        growth, found = space.growth(), []
        for action in actions:
            p = self.probabilities(growth)
            found.append((np.log(p[action]), -(p * np.log(p)).sum()))
            growth.decide(action)
        return np.array(found).T


@pytest.fixture(scope="module")
def controller():
    return TreeController(SPACE, units=8, initial=1.0, seed=1)


def check_against_reference(controller, children):
    found = controller.predict(**controller.inputs(children))
    reference = Reference(controller)
    for k, actions in enumerate(children):
        logs, entropies = reference.of(controller.space, actions)
        length = len(actions)
        np.testing.assert_allclose(found.log_probabilities[k, :length], logs, atol=1e-6)
        np.testing.assert_allclose(found.entropies[k, :length], entropies, atol=1e-6)
        np.testing.assert_array_equal(found.actions[k, :length], actions)
        for rest in found:
            assert not np.any(rest[k, length:])


def test_a_minibatch_is_what_a_plain_recursion_computes(controller):
    published = [SPACE.actions(cell) for cell in (TREECELL_A, TREECELL_B)]
    check_against_reference(controller, [*published, *drawn(SPACE, 8)])


@pytest.mark.slow
@pytest.mark.parametrize("base", ["gconv3", "conv3"])
def test_so_is_one_of_the_published_size(base):
    space = TreeCellSpace(base=base)
    check_against_reference(TreeController(space, seed=2), drawn(space, 20, seed=1))


# === What it predicts ===


def test_the_number_of_weights():
    # The release has 927,053, with a second bias of 400 in each of the two LSTMs of edges.
    weights = TreeController(SPACE).weights
    assert sum(int(np.prod(weight.shape)) for weight in weights) == 926_253
    assert len({weight.name for weight in weights}) == len(weights)


def test_weights_are_drawn_as_in_the_release():
    controller = TreeController(SPACE, seed=3)
    w = {weight.name: np.array(weight) for weight in controller.weights}
    for name, kernel in w.items():
        if name.endswith("bias"):
            assert not kernel.any()
    for name in ("up", "down"):
        edge = w[f"{name}_edge_kernel"]
        for matrix in (edge[:10], edge[10:], w[f"{name}_node_kept"]):
            small = matrix if matrix.shape[0] < matrix.shape[1] else matrix.T
            np.testing.assert_allclose(small @ small.T, np.eye(len(small)), atol=1e-5)
    assert not w["edges"][0].any()
    assert 0.08 < np.abs(w["edges"][1:]).max() <= 0.1
    assert 0.9 < np.abs(w["merge_hidden_kernel"]).max() * 200**0.5 <= 1


def test_log_probabilities_of_given_children_are_those_at_sampling(controller):
    for count in (3, 20, 5):
        children = controller.draw(0, count)
        found = controller.predict(**controller.inputs([child.actions for child in children]))
        for row, child in zip(found.log_probabilities.numpy(), children, strict=True):
            np.testing.assert_allclose(row[: len(child.actions)], child.log_probabilities, atol=1e-5)
            SPACE.decode(child.actions)
    assert len({len(child.actions) for child in children}) > 2
    assert controller.predict.experimental_get_tracing_count() == 1
    assert controller._sample.experimental_get_tracing_count() == 1


def every():
    """All sequences of actions, those by which nothing expands included."""
    found, begun = [], [()]
    while begun:
        actions = begun.pop()
        growth = _grown(actions)
        if growth.decision is None:
            found.append(actions)
        else:
            begun += [(*actions, k) for k in range(TINY.choices[growth.decision.kind])]
    return found


def test_probabilities_over_a_tiny_space_sum_to_one_and_children_are_drawn_by_them():
    controller = TreeController(TINY, units=8, initial=2.0)
    for head in controller.heads.values():
        kernel = head.layers[1][0]
        kernel.assign(kernel * 3.0)
    children = sorted(every())
    logs = controller.predict(**controller.inputs(children)).log_probabilities.numpy().sum(-1)
    assert len(children) == TINY.size == 180
    assert np.exp(logs).sum() == pytest.approx(1.0, abs=1e-5)
    assert np.exp(logs).max() > 10 / TINY.size  # far from uniform, so the sum says something
    count = 3000
    found = [child.actions for child in controller.draw(0, count)]
    # What has expanded nothing is drawn again.
    expanded = np.array([_grown(actions).expanded for actions in children])
    expected = count * np.exp(logs) * expanded / (np.exp(logs) * expanded).sum()
    counts = np.array([found.count(actions) for actions in children])
    assert not counts[~expanded].any()
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected) + 5)


def _grown(actions):
    growth = TINY.growth()
    for action in actions:
        growth.decide(action)
    return growth


def test_gradients_are_the_numerical_ones_of_the_recursion(controller):
    children = [(2, 1, 1, 1, 0, 1, 0, 0), *drawn(SPACE, 2, seed=3)]
    with tf.GradientTape() as tape:
        found = controller.predict(**controller.inputs(children))
        total = tf.reduce_sum(found.log_probabilities) + 0.3 * tf.reduce_sum(found.entropies)
    gradients = tape.gradient(total, [weight.value for weight in controller.weights])
    reference, rng, step = Reference(controller), np.random.default_rng(0), 1e-6

    def value():
        logs, entropies = np.hstack([reference.of(SPACE, actions) for actions in children])
        return logs.sum() + 0.3 * entropies.sum()

    for weight, gradient in zip(controller.weights, gradients, strict=True):
        direction, before = rng.normal(size=weight.shape), reference.w[weight.name]
        ends = []
        for sign in (1, -1):
            reference.w[weight.name] = before + sign * step * direction
            if weight.name in ("edges", "nodes"):  # that of what is not decided is no weight
                reference.w[weight.name][0] = 0
            ends.append(value())
        reference.w[weight.name] = before
        slope = (ends[0] - ends[1]) / (2 * step)
        found = (tf.convert_to_tensor(gradient).numpy() * direction).sum()
        assert found == pytest.approx(slope, rel=1e-3, abs=1e-4), weight.name


def test_what_decisions_have_in_common_is_computed_once(controller):
    actions = SPACE.actions(TREECELL_A)
    once, twice = (controller.inputs([actions] * k)["rows"] for k in (1, 2))
    assert once.branches.shape == twice.branches.shape
    assert once.ways.shape == twice.ways.shape
    assert (len(once.actions), len(twice.actions)) == (32, 64)
    # A decision adds its branch, what contains it, and a way.
    assert len(once.branches) < 3 * 32
    assert len(once.ways) <= 2 * 32


# === The policy ===


@pytest.fixture(scope="module")
def made():
    """A policy whose functions are traced once, and its state in the beginning."""
    policy = POLICIES["path-level"](SPACE, seed=3, units=4)
    return policy, policy.state()


@pytest.fixture
def policy(made):
    policy, state = made
    policy.restore(state)
    return policy


def test_the_policy_has_the_settings_of_the_release():
    policy = POLICIES["path-level"](SPACE)
    assert float(policy.optimizer.learning_rate) == pytest.approx(0.006)
    assert policy.optimizer.global_clipnorm == 40
    assert (policy.entropy_weight, policy.controller.units) == (0.01, 100)


def test_the_baseline_has_the_rewards_of_the_minibatch(policy):
    begun = POLICIES["path-level"](SPACE, units=4, baseline=2.0).state()
    policy.restore(begun)
    proposals = policy.ask(2)
    told = [policy.tell(experiences(proposals, [mean] * 2))["baseline"] for mean in (3.0, 5.0, 0.0)]
    expected = [2.0]
    for mean in (3.0, 5.0, 0.0):  # b += 0.95 (mean - b)
        expected.append(expected[-1] + 0.95 * (mean - expected[-1]))
    assert told == pytest.approx(expected[1:])


def test_a_minibatch_of_equal_rewards_changes_nothing(policy):
    weights = {weight.name: weight for weight in policy.controller.weights}
    before = {name: np.array(weight) for name, weight in weights.items()}
    proposals = policy.ask(4)
    policy.tell(experiences(proposals, [0.3] * 4))
    assert policy.version == 1
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, before[name])
    policy.tell(experiences(proposals, [0.3, 0.3, 0.4, 0.3]))
    changed = {name for name, weight in weights.items() if np.any(np.array(weight) != before[name])}
    assert {"edges", "up_edge_kernel", "down_edge_kernel", "merge_kernel"} <= changed
    assert not np.array(policy.controller.edges)[0].any()  # of an edge that is not decided


def test_a_restored_policy_goes_on_alike(policy):
    def steps():
        for _ in range(2):
            proposals = policy.ask(4)
            yield proposals, policy.tell(experiences(proposals, np.linspace(0, 1, 4)))

    begun = list(steps())
    state = policy.state()
    later = list(steps())
    assert later != begun
    policy.restore(state)
    assert list(steps()) == later


@pytest.mark.slow
def test_a_search_goes_on_after_a_stop(tmp_path):
    def search(path, *counts):
        for count in counts:
            policy = POLICIES["path-level"](SPACE, seed=1, units=4)
            evaluator = Function(lambda trial: Result(SPACE.features(trial.child)["layers"] / 40))
            with Journal(path, {"policy": "path-level"}) as journal:
                records = run_search(
                    policy, SPACE, Serial(evaluator), journal, count, Synchronous(4), seed=1
                )
        return records

    whole = search(tmp_path / "whole.sqlite", 12)
    stopped = search(tmp_path / "stopped.sqlite", 8, 12)
    assert [record.actions for record in stopped] == [record.actions for record in whole]
    assert [r.log_probabilities for r in stopped] == [r.log_probabilities for r in whole]


def test_only_a_space_of_trees_has_the_controller():
    from nasnet_zoo.search import NASNetSpace

    with pytest.raises(ValueError, match="Expected space: TreeCellSpace. Received: space=NAS"):
        POLICIES["path-level"](NASNetSpace())
    with pytest.raises(ValueError, match="Expected space: SequenceSpace. Received: space=Tree"):
        POLICIES["reinforce"](SPACE)


def found(policy, hidden, minibatches):
    """The rewards of a search for a hidden cell: the share of traits that a child has in common."""
    wanted = set(SPACE.traits(hidden))
    rewards = []
    for _ in range(minibatches):
        proposals = policy.ask(10)
        some = []
        for proposal in proposals:
            traits = set(SPACE.traits(proposal.actions))
            some.append(len(traits & wanted) / len(traits | wanted))
        policy.tell(experiences(proposals, some))
        rewards += some
    return np.array(rewards)


@pytest.mark.slow
def test_a_hidden_cell_is_approached_where_random_search_is_not():
    for seed in range(3):
        hidden = SPACE.sample(np.random.default_rng([7, seed, 1]))
        learned = found(POLICIES["path-level"](SPACE, seed=seed), hidden, 80)
        random = found(RandomSearch(SPACE, seed), hidden, 80)
        # Its best need not be the hidden cell, see docs/path-level.md.
        assert learned[-100:].mean() > 2 * random.mean()
