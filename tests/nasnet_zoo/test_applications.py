"""The cases of Keras's own tests of applications (keras/src/applications/applications_test.py).

Its case with the published weights and an elephant needs a download; what of it does not is here.
"""

import keras
import numpy as np
import pytest

import nasnet_zoo as zoo

pytestmark = pytest.mark.tensorflow

BUILDERS = [(zoo.NASNetMobile, 1056), (zoo.NASNetLarge, 4032)]


@pytest.fixture(params=BUILDERS, ids=["Mobile", "Large"])
def application(request):
    """A builder and the channels of its features; the models' weights are not filled."""
    with keras.StatelessScope(initialize_variables=False):
        yield request.param


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_application_notop_variable_input_channels(application, channels):
    app, last_dim = application
    model = app(weights=None, include_top=False, input_shape=(None, None, channels))
    assert model.outputs[0].shape == (None, None, None, last_dim)


def test_application_notop(application):
    app, last_dim = application
    assert app(weights=None, include_top=False).outputs[0].shape == (None, None, None, last_dim)


def test_application_notop_custom_input_shape(application):
    app, last_dim = application
    model = app(weights=None, include_top=False, input_shape=(123, 123, 3))
    assert model.outputs[0].shape == (None, 4, 4, last_dim)


def test_application_notop_custom_input_tensor(application):
    app, last_dim = application
    image = keras.Input((200, 200, 4), name="custom_input")
    halved = keras.layers.Conv2D(3, 2, 2, "valid")(image)
    model = app(weights=None, include_top=False, input_tensor=halved)
    assert model.inputs[0] is image
    assert model.outputs[0].shape == (None, 4, 4, last_dim)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_application_pooling(application, pooling):
    app, last_dim = application
    model = app(weights=None, include_top=False, pooling=pooling)
    assert model.outputs[0].shape == (None, last_dim)


@pytest.mark.parametrize(("activation", "name"), [("softmax", "softmax"), (None, "linear")])
def test_application_classifier_activation(application, activation, name):
    app, _ = application
    model = app(weights=None, include_top=True, classifier_activation=activation)
    assert model.layers[-1].activation.__name__ == name
    assert model.outputs[0].shape == (None, 1000)


def test_application_classes(application):
    app, _ = application
    assert app(weights=None, classes=7).outputs[0].shape == (None, 7)
    with pytest.raises(ValueError, match="Expected .*weights .*Received: .*no_such_weights"):
        app(weights="no_such_weights")
    with pytest.raises(ValueError, match="Expected .*pooling.*Received: "):
        app(weights=None, include_top=False, pooling="no_such_pooling")


def test_application_base():
    model = zoo.NASNetMobile()
    image = np.random.default_rng(0).integers(0, 256, (1, *model.input_shape[1:3], 3))
    predictions = model.predict(zoo.preprocess_input(image), verbose=0)
    assert predictions.shape == (1, 1000)
    assert predictions.sum() == pytest.approx(1, abs=1e-4)
    config = keras.saving.serialize_keras_object(model)
    again = keras.saving.deserialize_keras_object(config)
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="Expected .*'channels_last'. Received: 'channels_first'"):
            zoo.NASNetMobile()
    finally:
        keras.config.set_image_data_format("channels_last")
