"""Walking a Keras 3 model layer call by layer call, with symbolic signals or with real frames.

The lowering sends symbolic signals through the model, the probe real frames, to get Keras's own output of every layer.
Both use this walk, so they cannot disagree about the order of the calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import keras

from strop.errors import UnsupportedLayerError

# Called with (layer or operation, its path, positional arguments, keyword arguments); returns the call's outputs.
Visitor = Callable[[Any, str, tuple[Any, ...], dict[str, Any]], Any]


def walk(model: keras.Model, values: list[Any], visit: Visitor, path: str = "") -> list[Any]:
    """Send `values`, one per input of `model`, through it; return the values of its outputs.

    Nested models are entered, and a layer that is shared is visited once for each call.

    Raises
    ------
    UnsupportedLayerError
        If the model was not built, or is a subclassed model, whose graph cannot be seen.
    """
    where = path.rstrip("/") or model.name
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise UnsupportedLayerError(
                f"model {where!r} was never built, so its shapes are unknown: call model.build() or give it an Input"
            )
        if type(model).call is not keras.Sequential.call:
            raise _overridden(model, where)
        for layer in model.layers:
            values = keras.tree.flatten(_enter(layer, visit, path, tuple(values), {}))
        return values
    # Every functional model is a Function: the public name of its graph is `inputs`, `outputs` and `operations`.
    if not hasattr(model, "operations") or not hasattr(model, "_run_through_graph"):
        raise UnsupportedLayerError(
            f"model {where!r} ({type(model).__name__}) is a subclassed model, so its layers cannot be followed: "
            "rebuild it as a Sequential or functional model"
        )
    if type(model).call is not _functional_class().call:
        raise _overridden(model, where)

    def enter(operation: Any) -> Callable[..., Any]:
        return lambda *args, **kwargs: _enter(operation, visit, path, args, kwargs)

    # Keras's own interpreter of its graph (keras 3.8 to 3.15, src/ops/function.py, Function._run_through_graph);
    # it is how Keras clones models, and it follows tensors, not names.
    return list(keras.tree.flatten(model._run_through_graph(values, operation_fn=enter)))


def _overridden(model: keras.Model, where: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(f"model {where!r} ({type(model).__name__}) overrides call(): use a functional model")


def operation_classes(*functions: str) -> list[Any]:
    """Return the classes behind functions of `keras.ops`, which Keras exports under no public name."""
    found = []
    for name in functions:
        module = sys.modules[getattr(keras.ops, name).__module__] if hasattr(keras.ops, name) else None
        cls = getattr(module, "".join(word.capitalize() for word in name.split("_")), None)
        if cls is not None:
            found.append(cls)
    return found


@cache
def _functional_class() -> Any:
    """Return the class of functional models, which Keras exports under no public name."""
    tensor = keras.Input((1,))
    return type(keras.Model(tensor, keras.layers.Identity()(tensor)))


def _enter(operation: Any, visit: Visitor, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if isinstance(operation, keras.Model):
        if kwargs.get("training"):
            raise UnsupportedLayerError(f"nested model {path}{operation.name!r} is called with training=True")
        outputs = walk(operation, keras.tree.flatten(args), visit, f"{path}{operation.name}/")
        return outputs[0] if len(outputs) == 1 else outputs
    return visit(operation, f"{path}{operation.name}", args, kwargs)
