"""A search in a space of your own: which pipeline of scikit-learn classifies the digits best?

A child is a pipeline; its reward is its accuracy in a cross-validation. See docs/own-space.md.
"""

import tyro
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from nasnet_zoo import search

SCALERS = {"none": "passthrough", "standard": StandardScaler(), "min-max": MinMaxScaler()}
CLASSIFIERS = {
    "ridge": lambda strength: RidgeClassifier(alpha=strength),
    "SVM": lambda strength: SVC(C=strength),
    "multinomial": lambda strength: MultinomialNB(alpha=strength),
    "Gaussian": lambda strength: GaussianNB(),
}
CHOICES = {
    "scaler": tuple(SCALERS),
    "components": (None, 8, 16, 32),
    "classifier": tuple(CLASSIFIERS),
    "strength": (0.01, 0.1, 1.0, 10.0),
}
# The policies' defaults are those of papers that sampled thousands of children.
CONTROLLER, POPULATION = {"learning_rate": 0.01}, {"population": 20, "sample": 5}
OPTIONS = {"ppo": CONTROLLER, "reinforce": CONTROLLER, "evolution": POPULATION}


class PipelineSpace(search.SequenceSpace[dict]):
    steps = tuple(search.Step(name, len(values)) for name, values in CHOICES.items())

    def decode(self, actions):
        chosen = zip(CHOICES, self.check(actions), strict=True)
        pipeline = {name: CHOICES[name][action] for name, action in chosen}
        if pipeline["classifier"] == "Gaussian":
            pipeline["strength"] = None  # It has none: pipelines that differ in it alone are equal.
        return pipeline

    def features(self, pipeline):
        return {f"{name}: {pipeline[name]}": 1.0 for name in ("scaler", "classifier")}


class CrossValidation(search.Evaluator[dict]):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def cost(self, pipeline):
        return {"inputs": pipeline["components"] or self.images.shape[1]}

    def evaluate(self, trial):
        scaler, components, classifier, strength = trial.child.values()
        pca = PCA(components, random_state=trial.seed) if components else "passthrough"
        pipeline = make_pipeline(SCALERS[scaler], pca, CLASSIFIERS[classifier](strength))
        # A ValueError, as of a multinomial model of negative numbers, fails this child alone.
        scores = cross_val_score(pipeline, self.images, self.labels, cv=3, error_score="raise")
        return search.Result(scores.mean(), metrics={"folds": scores})


def main(out="runs/pipelines", policy="ppo", executor="processes", children=60, asynchronous=False):
    space, evaluator = PipelineSpace(), CrossValidation(*load_digits(return_X_y=True))
    settings = search.SearchSettings(
        policy, OPTIONS.get(policy, {}), minibatch=10, asynchronous=asynchronous
    )
    kind = search.ExecutorSettings(executor)
    best, *_ = search.search_folder(space, evaluator, out, settings, children, executor=kind)
    print(f"{best.name}: {best.reward:.2%} with {best.architecture}")


if __name__ == "__main__":
    tyro.cli(main)
