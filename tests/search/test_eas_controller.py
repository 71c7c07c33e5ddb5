import numpy as np
import pytest
import tensorflow as tf
from evaluators import experiences

from nasnet_zoo.search import POLICIES, EASController, EASSpace, NASNetSpace, RandomSearch

pytestmark = pytest.mark.tensorflow

SPACE = EASSpace()
DENSE = EASSpace("g4_g4_t_g4", wider=3, deeper=3)
TINY = EASSpace("conv-4-3_pool_fc-8", 1, 2, filters=(4, 8), units=(8,), kernels=(1, 3))


def children(space, count, seed=0):
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(count)]


# === A plain reference, one network at a time ===


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Reference:
    """The published formulas, step by step, in float64."""

    def __init__(self, controller):
        self.w = {weight.name: np.array(weight, np.float64) for weight in controller.weights}
        self.space = controller.space
        kernels = self.space.kernels
        self.tokens = ["none", "t" if self.space.dense else "pool"]
        if self.space.dense:
            self.tokens += [f"g{k}" for k in self.space.growths]
        else:
            self.tokens += [f"conv-{f}-{k}" for f in self.space.filters for k in kernels]
            self.tokens += [f"fc-{u}" for u in self.space.units]

    def lstm(self, name, x, h, c):
        gates = np.concatenate([x, h]) @ self.w[f"{name}_kernel"] + self.w[f"{name}_bias"]
        i, new, f, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
        return sigmoid(o) * np.tanh(c), c

    def encoded(self, layers):
        """State of each layer, and the last ones."""
        read = [self.w["tokens"][self.tokens.index(str(layer))] for layer in layers]
        states, last = [], []
        for name, order in (("forward", read), ("backward", read[::-1])):
            h = c = np.zeros(len(self.w[f"{name}_bias"]) // 4)
            found = []
            for x in order:
                h, c = self.lstm(name, x, h, c)
                found.append(h)
            states.append(found if name == "forward" else found[::-1])
            last.append((h, c))
        joined = [np.concatenate(pair) for pair in zip(*states, strict=True)]
        return joined, tuple(np.concatenate(pair) for pair in zip(*last, strict=True))

    def probabilities(self, episode):
        """Of the choices of each of the next draws."""
        states, last = self.encoded(episode.layers)
        for draw in episode.draws:
            if draw.kind == "wider":
                yes = sigmoid((states[draw.layer] @ self.w["wider_kernel"] + self.w["wider_bias"])[0])
                yield np.array([1 - yes, yes])
                continue
            h, c = last
            x = np.zeros(self.w["tokens"].shape[1])
            for name, action in zip(["blocks", "layers", None], [*episode.drawn, None], strict=False):
                h, c = self.lstm("deeper", x, h, c)
                if action is not None:
                    x = self.w[name][action]
            logits = h @ self.w[f"{draw.kind}_kernel"] + self.w[f"{draw.kind}_bias"]
            exists = np.exp(logits[: draw.choices])
            yield exists / exists.sum()

    def of(self, actions):
        """Log-probabilities and entropies of a child's draws."""
        episode, found = self.space.episode(), []
        while episode.draws:
            chosen = actions[len(found) : len(found) + len(episode.draws)]
            for p, action in zip(self.probabilities(episode), chosen, strict=True):
                found.append((np.log(p[action]), -(p * np.log(p)).sum()))
            episode.decide(chosen)
        return np.array(found).T


@pytest.fixture(scope="module", params=[SPACE, DENSE], ids=["plain", "densenet"])
def controller(request):
    return EASController(request.param, units=6, embedding=5, seed=1)


def test_a_minibatch_is_what_a_plain_reference_computes(controller):
    some = children(controller.space, 5)
    found = controller.predict(**controller.inputs(some))
    reference = Reference(controller)
    for k, actions in enumerate(some):
        logs, entropies = reference.of(actions)
        length = len(actions)
        np.testing.assert_allclose(found.log_probabilities[k, :length], logs, atol=1e-6)
        np.testing.assert_allclose(found.entropies[k, :length], entropies, atol=1e-6)
        np.testing.assert_array_equal(found.actions[k, :length], actions)
        for rest in found:
            assert not np.any(rest[k, length:])


def test_gradients_are_the_numerical_ones_of_the_reference(controller):
    some = children(controller.space, 2, seed=3)
    with tf.GradientTape() as tape:
        found = controller.predict(**controller.inputs(some))
        total = tf.reduce_sum(found.log_probabilities) + 0.3 * tf.reduce_sum(found.entropies)
    gradients = tape.gradient(total, [weight.value for weight in controller.weights])
    reference, rng, step = Reference(controller), np.random.default_rng(0), 1e-6

    def value():
        logs, entropies = np.hstack([reference.of(actions) for actions in some])
        return logs.sum() + 0.3 * entropies.sum()

    for weight, gradient in zip(controller.weights, gradients, strict=True):
        direction, before = rng.normal(size=weight.shape), reference.w[weight.name]
        ends = []
        for sign in (1, -1):
            reference.w[weight.name] = before + sign * step * direction
            ends.append(value())
        reference.w[weight.name] = before
        slope = (ends[0] - ends[1]) / (2 * step)
        found = (tf.convert_to_tensor(gradient).numpy() * direction).sum()
        assert found == pytest.approx(slope, rel=1e-3, abs=1e-4), weight.name


# === What it predicts ===


def test_log_probabilities_of_given_children_are_those_at_sampling(controller):
    for count in (3, 8):
        drawn = controller.draw(0, count)
        found = controller.predict(**controller.inputs([child.actions for child in drawn]))
        for row, child in zip(found.log_probabilities.numpy(), drawn, strict=True):
            np.testing.assert_allclose(row[: len(child.actions)], child.log_probabilities, atol=1e-5)
            controller.space.decode(child.actions)
    assert controller.predict.experimental_get_tracing_count() == 1
    assert controller._sample.experimental_get_tracing_count() == 1


def test_weights_are_drawn_as_in_the_release():
    controller = EASController(SPACE, seed=3)
    w = {weight.name: np.array(weight) for weight in controller.weights}
    assert len(w) == len(controller.weights)
    for name in ("tokens", "blocks", "layers"):
        assert 1.6 < np.abs(w[name]).max() <= 3**0.5
        assert w[name].shape[1] == 16
    assert w["tokens"].shape[0] == 1 + 1 + 10 * 3 + 10
    assert w["forward_kernel"].shape == w["backward_kernel"].shape == (16 + 50, 200)
    assert w["deeper_kernel"].shape == (16 + 100, 400)
    assert {name: w[f"{name}_kernel"].shape for name in SPACE.heads} == {
        "wider": (100, 1),
        "block": (100, 5),
        "layer": (100, 5),
        "kernel": (100, 3),
    }
    np.testing.assert_array_equal(w["deeper_bias"], np.repeat([0, 0, 1, 0], 100))
    assert np.abs(w["forward_kernel"]).max() == pytest.approx((6 / 266) ** 0.5, rel=0.01)


def every(space, begun=()):
    """All sequences of actions."""
    episode, rest = space.episode(), list(begun)
    while episode.draws and len(rest) >= len(episode.draws):
        count = len(episode.draws)
        episode.decide(rest[:count])
        rest = rest[count:]
    if not episode.draws:
        return [tuple(begun)]
    choices = episode.draws[len(rest)].choices
    return [child for k in range(choices) for child in every(space, (*begun, k))]


def test_probabilities_over_a_tiny_space_sum_to_one_and_children_are_drawn_by_them():
    controller = EASController(TINY, units=6, seed=4)
    for kernel, _ in controller.outputs:
        kernel.assign(kernel * 2.0)
    all_children = every(TINY)
    logs = controller.predict(**controller.inputs(all_children)).log_probabilities.numpy().sum(-1)
    assert np.exp(logs).sum() == pytest.approx(1.0, abs=1e-5)
    assert np.exp(logs).max() > 3 / len(all_children)  # far from uniform, so the sum says something
    count = 2000
    found = [child.actions for child in controller.draw(0, count)]
    expected = count * np.exp(logs)
    counts = np.array([found.count(actions) for actions in all_children])
    assert counts.sum() == count
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected) + 5)


def test_with_output_weights_of_zero_every_choice_that_exists_is_as_likely():
    controller = EASController(SPACE, units=4)
    for kernel, _ in controller.outputs:
        kernel.assign(kernel * 0.0)
    some = children(SPACE, 3)
    found = controller.predict(**controller.inputs(some)).log_probabilities.numpy()
    for row, actions in zip(found, some, strict=True):
        episode, choices = SPACE.episode(), []
        while episode.draws:
            count = len(episode.draws)
            choices += [draw.choices for draw in episode.draws]
            episode.decide(actions[len(choices) - count : len(choices)])
        np.testing.assert_allclose(row[: len(actions)], -np.log(choices), atol=1e-6)


def test_networks_in_common_are_encoded_once():
    controller = EASController(SPACE, units=4)
    actions = children(SPACE, 1)[0]
    once, twice = (controller.inputs([actions] * k)["rows"] for k in (1, 2))
    assert once.networks.shape == twice.networks.shape
    assert once.walks.shape == twice.walks.shape
    assert 2 * len(once.actions) == len(twice.actions) == 2 * len(actions)
    # One for each step whose network is another than before.
    assert len(once.networks) <= 9


# === The policy ===


@pytest.fixture(scope="module")
def made():
    """A policy whose functions are traced once, and its state in the beginning."""
    policy = POLICIES["eas"](SPACE, seed=3, units=4)
    return policy, policy.state()


@pytest.fixture
def policy(made):
    policy, state = made
    policy.restore(state)
    return policy


def test_the_policy_has_the_settings_of_the_release():
    policy = POLICIES["eas"](SPACE)
    assert float(policy.optimizer.learning_rate) == pytest.approx(0.002)
    assert (policy.entropy_weight, policy.controller.units) == (1e-5, 50)
    assert policy.advantage_scale == 10


def test_the_baseline_begins_with_0_and_has_the_rewards_of_the_minibatch(policy):
    proposals = policy.ask(2)
    told = [policy.tell(experiences(proposals, [mean] * 2))["baseline"] for mean in (3.0, 5.0)]
    assert told == pytest.approx([2.85, 2.85 + 0.95 * (5 - 2.85)])


def test_advantages_are_divided(policy):
    now, ones = tf.constant([[-1.0, -2.0], [-3.0, 0.0]]), tf.ones((2, 2))
    gain = policy._gain(now, now, ones, tf.constant([5.0, 1.0]))
    assert float(gain) == pytest.approx((5 * -3 + 1 * -3) / 2 / 10)


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


def test_only_its_space_has_the_controller():
    with pytest.raises(ValueError, match="Expected space: EASSpace. Received: space=NAS"):
        POLICIES["eas"](NASNetSpace())
    with pytest.raises(ValueError, match="Expected space: SequenceSpace. Received: space=EAS"):
        POLICIES["reinforce"](SPACE)


def found(policy, space, hidden, minibatches):
    """The rewards of a search for a hidden network: the share of traits that a child has in common."""
    wanted, rewards = set(space.traits(hidden)), []
    for _ in range(minibatches):
        proposals = policy.ask(10)
        some = []
        for proposal in proposals:
            traits = set(space.traits(proposal.actions))
            some.append(len(traits & wanted) / len(traits | wanted))
        policy.tell(experiences(proposals, np.tan(np.pi / 2 * 0.99 * np.array(some))))
        rewards += some
    return np.array(rewards)


@pytest.mark.slow
def test_a_hidden_network_is_approached_where_random_search_is_not():
    for seed in range(3):
        hidden = SPACE.sample(np.random.default_rng([7, seed, 1]))
        learned = found(POLICIES["eas"](SPACE, seed=seed), SPACE, hidden, 80)
        random = found(RandomSearch(SPACE, seed), SPACE, hidden, 80)
        # Its best of 800 children need not be better: it settles on what is good in the mean.
        assert learned[-100:].mean() > 1.5 * random.mean()
