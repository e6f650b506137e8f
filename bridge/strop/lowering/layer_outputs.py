"""Layer outputs of a Keras model, by a walk that is compiled once and kept while the model lives and is unchanged.

Keras compiles `predict` anew for each model object (`make_predict_function` in
`keras/src/backend/tensorflow/trainer.py` of 3.15), so a new walker for each verification would be traced each time.
TensorFlow warns of the fifth trace of one piece of code, whatever the models (`_FrequentTracingDetector` in
`tensorflow/python/eager/polymorphic_function/polymorphic_function.py` of 2.21, keyed on the code object). Here a model
is traced once, with the number of frames left open, and its one concrete function is called from then on.
"""

from __future__ import annotations

import json
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from strop.keras.activations import SpikingActivation
from strop.keras.thresholds import declared_threshold
from strop.keras.walk import walk

Array = npt.NDArray[Any]
# Outputs of the observed calls, of the walk, and of the model itself.
Shown = tuple[list[Array], list[Array], list[Array]]

_KEPT: weakref.WeakKeyDictionary[Any, dict[tuple[int, ...], Walker]] = weakref.WeakKeyDictionary()


def walker_of(model: keras.Model, visits: Sequence[int]) -> Walker:
    """Return a compiled walk along `model` that gives the outputs of some of its calls; the kept one, if it still fits.

    New weights (and sharpness) need no new walk: they are read each time. Any other change does: a layer added, an
    argument of a layer, a function, or a variable exchanged. A layer or activation of the user's own needs one each
    time.

    Parameters
    ----------
    visits : sequence of int
        Numbers of the calls, in the order of `strop.keras.walk.walk`.
    """
    wanted = tuple(visits)
    kept = _KEPT.setdefault(model, {})
    fingerprint = _Fingerprint(model)
    if wanted not in kept or not kept[wanted].fingerprint.same(fingerprint):
        kept[wanted] = Walker(model, wanted, fingerprint)
    return kept[wanted]


class _Fingerprint:
    """Everything of a model that a compiled trace of it depends on.

    Objects are compared by weak references: they keep nothing alive, and an `id` could be that of a newer object.
    """

    def __init__(self, model: keras.Model) -> None:
        layers = list(model._flatten_layers())
        functions = [getattr(layer, "activation", None) for layer in layers]
        # Code of users may read anything when it is traced: lists, globals, other objects.
        self.config = _config(model) if all(_is_known(part) for part in (*layers, *functions)) else None
        self.attributes = [_plain(layer) for layer in layers]
        parts = [*model.variables, *layers, *functions]
        self.parts = [weakref.ref(part) for part in parts if part is not None and _can_be_referred_to(part)]

    def same(self, other: _Fingerprint) -> bool:
        """Whether a model that looks like `other` computes what this one did, but for its weights."""
        if self.config is None or (self.config, self.attributes) != (other.config, other.attributes):
            return False
        if len(self.parts) != len(other.parts):
            return False
        return all(mine() is theirs() is not None for mine, theirs in zip(self.parts, other.parts, strict=True))


def _is_known(part: Any) -> bool:
    """Whether a layer or activation is Keras's or strop's own, and computes by its config and weights alone."""
    if part is None:
        return True
    code = type(part) if isinstance(part, keras.layers.Layer) else part
    return (getattr(code, "__module__", None) or "").split(".")[0] in ("keras", "strop")


def _plain(layer: Any) -> dict[str, Any]:
    """Return the public attributes of a layer that are plain values; its config may leave them out."""
    kinds = (bool, int, float, str, tuple)
    return {name: repr(x) for name, x in vars(layer).items() if not name.startswith("_") and isinstance(x, kinds)}


def _can_be_referred_to(part: Any) -> bool:
    try:
        weakref.ref(part)
    except TypeError:  # a number or a builtin
        return False
    return True


def _config(model: keras.Model) -> str | None:
    """Return all arguments of all layers as text, or None for a model without a config.

    Keras's number and image formats are global settings, which some layers look up when they are called.
    """
    formats = [keras.config.floatx(), keras.config.image_data_format(), keras.config.epsilon()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of functions that could not be saved
            return json.dumps([*formats, keras.saving.serialize_keras_object(model)], sort_keys=True)
    except Exception:  # whatever a layer's own get_config raises
        return None


class Walker:
    """Calls a model's layers one by one, and the model itself, on the same frames.

    Parameters
    ----------
    model : keras.Model
        Held weakly.
    visits : tuple of int
    fingerprint : _Fingerprint
        Of the model as it is now.
    """

    def __init__(self, model: keras.Model, visits: tuple[int, ...], fingerprint: _Fingerprint) -> None:
        self.fingerprint = fingerprint
        self._walk = _Walk(weakref.ref(model), visits)
        self._types = [(tuple(tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
        self._function: Callable[[list[Array]], Any] | None = None

    @property
    def firing(self) -> dict[int, str]:
        """Calls of layers that spike (see `spikes`), number to path; known after the first frames."""
        return self._walk.firing

    def __call__(self, arrays: list[Array]) -> Shown:
        """Return what the model's calls give for frames, one array per input of the model, in the input's dtype."""
        if self._function is None:
            self._function = self._compiled()
        shown, outputs, direct = self._function(arrays)
        return [_numpy(x) for x in shown], [_numpy(x) for x in outputs], [_numpy(x) for x in direct]

    def _compiled(self) -> Callable[[list[Array]], Any]:
        """Return the walk as one compiled function, as `model.predict` would have it."""
        if keras.backend.backend() != "tensorflow":
            return self._walk.predict_on_batch  # type: ignore[no-any-return]  # Keras ships no types
        import tensorflow as tf

        def walked(arrays: list[Any]) -> Any:
            # Each variable is read once: TensorFlow merges common subexpressions of the walk and the model only where
            # both start from the same tensors, and two reads of a variable are two tensors. (Measured: a LeNet's walk
            # together with the model takes 1.0 times the walk alone, and 1.8 times without this.)
            variables = self._walk.model().variables
            read = [(variable, tf.convert_to_tensor(variable.value)) for variable in variables]
            with keras.StatelessScope(state_mapping=read):
                return self._walk(arrays, training=False)

        specs = [tf.TensorSpec([None, *shape], dtype) for shape, dtype in self._types]
        function = tf.function(
            walked,
            autograph=False,
            # XLA where Keras would use it, and nowhere else.
            jit_compile=True if self._walk.jit_compile else None,
        )
        # A concrete function is never traced again, so its one trace causes no warning.
        concrete = function.get_concrete_function(specs)
        return lambda arrays: concrete([tf.convert_to_tensor(x, s.dtype) for x, s in zip(arrays, specs, strict=True)])


def spikes(layer: Any) -> bool:
    """Whether a layer is a spiking activation, or has one, however it is lowered; wrapped models are not searched."""
    inner = getattr(layer, "layer", None)
    if isinstance(layer, keras.layers.Wrapper) and not isinstance(inner, keras.Model):
        return spikes(inner)
    return any(
        isinstance(part, SpikingActivation) or declared_threshold(part) is not None
        for part in (layer, getattr(layer, "activation", None))
    )


def _numpy(value: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(value))


class _Walk(keras.Model):  # type: ignore[misc]  # Keras ships no types
    """The walk as a model, so that Keras sets up the call context that layers expect."""

    def __init__(self, model: Callable[[], keras.Model | None], visits: tuple[int, ...]) -> None:
        super().__init__(name="walk")
        # A weak reference: the walk must not keep the model that it is kept for, nor take it for a layer of its own.
        self._walked = (model, frozenset(visits))
        # In a tuple, Keras does not take it for a part of the model.
        self._found: tuple[dict[int, str]] = ({},)
        self.built = True

    @property
    def firing(self) -> dict[int, str]:
        """See `Walker.firing`."""
        return self._found[0]

    def model(self) -> keras.Model:
        """Return the model that is walked along."""
        model = self._walked[0]()
        assert model is not None
        return model

    def call(self, inputs: Any, training: bool = False) -> Any:
        # `training` is there for Keras to pass on: augmentation layers default to training=True.
        model, visits = self.model(), self._walked[1]
        shown: list[Any] = []
        count = -1

        def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            nonlocal count
            count += 1
            if spikes(operation):
                self.firing[count] = path
            # As Keras does in inference: the recorded `training` argument of the call is overridden.
            outputs = operation(*args, **{**kwargs, "training": False} if "training" in kwargs else kwargs)
            if count in visits:
                shown.append(outputs)
            return outputs

        arrays = keras.tree.flatten(inputs)
        outputs = walk(model, arrays, visit)
        return shown, outputs, keras.tree.flatten(model(_as_made(model, arrays)))


def _as_made(model: keras.Model, arrays: list[Any]) -> Any:
    """Return the arrays in the structure of the model's inputs (a dictionary, for example): Keras warns of any
    other."""
    # A Sequential model, which has one input, may not know it yet.
    return arrays[0] if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, arrays)
