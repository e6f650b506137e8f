"""Put stored weights into a rebuilt model: by name and shape, every one of them, none left over.

The readers of the old formats describe what they found as `StoredWeight`s; a layer describes what it needs as
`Slot`s. A weight that is missing, left over, of another shape, not finite, or that float32 cannot hold is an
error that names file, layer, weight and shapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.errors import ModelFileError
from strop.reader.build import RebuiltModel, RebuiltWrapper
from strop.reader.chain import Expansion
from strop.reader.classes import is_decoder, is_spiking
from strop.reader.config import safe_name
from strop.reader.naming import brief, shown_shape

# tf.Variable without a name; the spiking layers of tf.keras ports of Whetstone store their sharpness and key
# so.
_ANONYMOUS = re.compile(r"Variable(_\d+)?")
_NUMBERED = re.compile(r"_\d+$")  # TensorFlow 1 numbers names that it has seen before
_KEY_NAME = "rescaled_key"
_OTHER_NAMES = {"depthwise_kernel": "kernel"}  # of depthwise convolutions, in Keras 2


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """A weight as the file has it; `read` fetches the values, once its shape is known to fit.

    Attributes
    ----------
    name : str
        As in the file, for instance ``"dense_1/kernel:0"``.
    shape : tuple of int
    read : callable
        Returns the array.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]

    @property
    def parts(self) -> list[str]:
        """The components of the name, without TensorFlow's output number and leading underscores."""
        return [part.lstrip("_") for part in self.name.split(":")[0].split("/")]


@dataclass(frozen=True, eq=False)
class Slot:
    """A place for a weight: a variable of a Keras layer, or the decoder's key, which is compared and not
    stored.

    Attributes
    ----------
    path : tuple of str
        Names of the nested models and of the layer.
    name : str
    shape : tuple of int
    variable : keras.Variable or None
    required : bool
        Whether the file must hold it. Sharpness and key may stand in the config instead.
    frozen : bool
        Whether the layer was not trainable: Keras 2 then lists its weights after all others of a nested
        model.
    key : array or None
        Of a decoder: the key of the config, as the file stores it: ``2 key^T - 1``.
    """

    path: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    variable: Any
    required: bool = True
    frozen: bool = False
    key: NDArray[Any] | None = None


def slots(layer: Any, path: tuple[str, ...]) -> Iterator[Slot]:
    """Yield the slots of a layer or a nested model, in the order of its layers.

    Parameters
    ----------
    layer : keras.layers.Layer, RebuiltModel or Expansion
    path : tuple of str
        Its name, behind those of the models that it is nested in.
    """
    if isinstance(layer, Expansion):
        yield from slots(layer.main, path)
        return
    if isinstance(layer, RebuiltModel):
        inside = [slot for name, inner in layer.layers.items() for slot in slots(inner, (*path, name))]
        # What a wrapper has of its own.
        for variable in layer.model.weights if isinstance(layer, RebuiltWrapper) else ():
            if not any(variable is slot.variable for slot in inside):
                yield Slot(path, variable.name, tuple(variable.shape), variable)
        yield from inside
        return
    activation = getattr(layer, "activation", None)
    inner_weights = getattr(activation, "weights", [])  # where the activation is a layer of its own
    for variable in layer.weights:
        if not any(variable is other for other in inner_weights):
            required = not (is_spiking(layer) and variable.name == "sharpness")
            shape = tuple(variable.shape)
            yield Slot(path, variable.name, shape, variable, required, frozen=not layer.trainable)
    if inner_weights:
        yield from slots(activation, (*path, str(getattr(activation, "name", "activation"))))
    if is_decoder(layer):
        signs = 2 * np.asarray(layer.key, dtype=np.float64).T - 1
        yield Slot(path, _KEY_NAME, signs.shape, None, required=False, key=signs)


def largest_size(stored: Mapping[str, Sequence[StoredWeight]]) -> int:
    """Return the number of values of the largest stored weight, and 1 where there is none."""
    return max((math.prod(weight.shape) for weights in stored.values() for weight in weights), default=1)


def fill(rebuilt: RebuiltModel, stored: Mapping[str, Sequence[StoredWeight]], source: str) -> None:
    """Put stored weights into a rebuilt model; nothing may be missing or left over.

    Parameters
    ----------
    rebuilt : RebuiltModel
    stored : mapping
        By the name of the layer, or of the outermost nested model, that they belong to.
    source : str
        The file, for the messages.

    Raises
    ------
    ModelFileError
    """
    left = {name: weights for name, weights in stored.items() if weights}
    for name, layer in rebuilt.layers.items():
        _place(list(slots(layer, (name,))), list(left.pop(safe_name(name), [])), source, name)
    for name, weights in left.items():
        raise ModelFileError(
            f"{source}: the file holds {len(weights)} weights for a layer {name!r}, which is not in the model"
        )
    check_values(rebuilt.model, source)
    _finish(rebuilt)


def _finish(rebuilt: RebuiltModel) -> None:
    """Have the layers that compute with something else than their weights make it of these."""
    import keras

    for layer in rebuilt.layers.values():
        if isinstance(layer, RebuiltModel):
            _finish(layer)
        elif isinstance(layer, Expansion):
            layer.finish()
        elif isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _place(free: list[Slot], unplaced: list[StoredWeight], source: str, owner: str) -> None:
    """Put the weights of one layer or outermost nested model into its slots."""
    for match in (_match_by_path, _match_by_name, _match_anonymous):
        for slot, weight in match(free, unplaced):
            _put(slot, weight, source)
            free.remove(slot)
            unplaced.remove(weight)
    missing = [slot for slot in free if slot.required]
    if missing:
        slot = missing[0]
        found = ", ".join(f"{weight.name} {shown_shape(weight.shape)}" for weight in unplaced) or "nothing else"
        raise ModelFileError(
            f"{source}: layer {'/'.join(slot.path)!r} needs the weight {slot.name!r} of shape "
            f"{shown_shape(slot.shape)}, which the file does not hold; left over in it: {found}"
        )
    if unplaced:
        weight = unplaced[0]
        raise ModelFileError(
            f"{source}: layer {owner!r} has no place for the stored weight {weight.name!r} of shape "
            f"{shown_shape(weight.shape)}; config and weights do not belong together"
        )


def check_values(model: Any, source: str) -> None:
    """Check that every weight of a loaded model is finite and every sharpness in [0, 1].

    Raises
    ------
    ModelFileError
    """
    for variable in model.weights:
        _check_array(variable.numpy(), variable.name, variable.path, source)


def _match_by_path(free: Sequence[Slot], unplaced: Sequence[StoredWeight]) -> list[tuple[Slot, StoredWeight]]:
    """Match weights whose name tells the layer as well: ``encoder/dense_2/kernel:0``."""
    pairs: dict[Slot, StoredWeight] = {}
    for weight in unplaced:
        parts = weight.parts
        scored = [
            (len(set(slot.path) & set(parts[:-1])), slot)
            for slot in free
            if _same_name(slot, weight) and slot.path[-1] in parts[:-1]
        ]
        best = max((score for score, _ in scored), default=0)
        chosen = [slot for score, slot in scored if score == best]
        if len(chosen) == 1 and chosen[0] not in pairs:
            pairs[chosen[0]] = weight
    return list(pairs.items())


def _match_by_name(free: Sequence[Slot], unplaced: Sequence[StoredWeight]) -> list[tuple[Slot, StoredWeight]]:
    """Match what is left by the weight's own name: in order, where that order is certain, else by distinct shapes."""
    pairs = []
    for name in dict.fromkeys(slot.name for slot in free):
        wanted = [slot for slot in free if slot.name == name]
        found = [weight for weight in unplaced if _same_name(wanted[0], weight)]
        if len(found) != len(wanted):
            continue
        if len(wanted) == 1 or not any(slot.frozen for slot in wanted):
            pairs += list(zip(wanted, found, strict=True))
        elif len({slot.shape for slot in wanted}) == len(wanted):
            by_shape = {weight.shape: weight for weight in found}
            pairs += [(slot, by_shape[slot.shape]) for slot in wanted if slot.shape in by_shape]
    return pairs


def _match_anonymous(free: Sequence[Slot], unplaced: Sequence[StoredWeight]) -> list[tuple[Slot, StoredWeight]]:
    """Match variables without a name to sharpness and keys, where it is certain which is which."""
    pairs = []
    optional = [slot for slot in free if not slot.required]
    for shape in dict.fromkeys(slot.shape for slot in optional):
        wanted = [slot for slot in optional if slot.shape == shape]
        found = [w for w in unplaced if w.shape == shape and _ANONYMOUS.fullmatch(w.parts[-1])]
        if len(wanted) == len(found):
            pairs += list(zip(wanted, found, strict=True))
    return pairs


def _same_name(slot: Slot, weight: StoredWeight) -> bool:
    name = _NUMBERED.sub("", weight.parts[-1])
    return slot.name in (weight.parts[-1], name, _OTHER_NAMES.get(name))


def _put(slot: Slot, weight: StoredWeight, source: str) -> None:
    owner = "/".join(slot.path)
    where = f"{source}: weight {slot.name!r} of layer {owner!r}"
    scalar = slot.shape == () and weight.shape == (1,)
    if weight.shape != slot.shape and not scalar:
        raise ModelFileError(
            f"{where} is stored with shape {shown_shape(weight.shape)}, but the layer needs {shown_shape(slot.shape)}"
        )
    try:
        array = np.asarray(weight.read())
    except Exception as error:
        raise ModelFileError(f"{where} cannot be read: {brief(error)}") from error
    if array.dtype.kind not in "fiub":
        raise ModelFileError(f"{where} is stored as {array.dtype}, which is no number")
    _check_array(array, slot.name, owner, source)
    if slot.key is not None:
        if not np.array_equal(array, slot.key):
            raise ModelFileError(f"{where} differs from the key in the layer's config; only one of them can be right")
        return
    target = array.reshape(slot.shape).astype(slot.variable.dtype)
    if not np.array_equal(target, array.reshape(slot.shape)):
        raise ModelFileError(
            f"{where} is stored as {array.dtype} with values that {slot.variable.dtype} cannot hold; strop "
            f"compares networks in the precision they run in, so save the model with {slot.variable.dtype}"
        )
    slot.variable.assign(target)


def _check_array(array: NDArray[Any], name: str, owner: str, source: str) -> None:
    if name == "sharpness" and np.isnan(array).any():
        raise ModelFileError(f"{source}: neither the config nor the weights tell the sharpness of {owner!r}")
    finite = np.isfinite(array)
    if not finite.all():
        bad = int(array.size - np.count_nonzero(finite))
        raise ModelFileError(
            f"{source}: weight {name!r} of {owner!r}, shape {shown_shape(array.shape)}, holds {bad} of "
            f"{array.size} values that are not finite (NaN or infinity); the training diverged, or the file "
            "is damaged"
        )
    if name == "sharpness" and not (0.0 <= float(array.reshape(-1)[0]) <= 1.0):
        raise ModelFileError(f"{source}: the sharpness of {owner!r} is {float(array.reshape(-1)[0])}, not in [0, 1]")
