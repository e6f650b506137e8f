"""Write docs/model-files.md from what the reader knows; `--check` compares the page instead.

python docs/render_model_files.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from strop.reader.coverage import FORMATS, OTHER_ROWS, Row, layer_rows
from strop.reader.stored_operations import counterparts

PAGE = Path(__file__).parent / "model-files.md"

OPENING = """\
<!-- Written by docs/render_model_files.py from the reader. Change that, and run it again. -->

# Model files

`strop.load_model(path)` opens model files of every kind that Keras has written since 2017, by what is in them and not
by their names: `.keras` of Keras 3 and of Keras 2 (tf.keras 2.12 on, tf_keras), `.h5` of Keras 2, of Keras 3 and of the
original Whetstone, and the SavedModel folders of Keras 2. Every weight must find its place, by name and shape.

Nothing that a file carries is ever run: no pickle, no `Lambda`, no class by its module. A class or function of your
own is found where you registered it (`keras.saving.register_keras_serializable`), or passed:

```python
model = strop.load_model("signs.h5", custom_objects={"SteSign": SteSign})
```

It must be written for Keras 3, whichever Keras wrote the file, and the lowering must know it to be a threshold
(`strop.keras.declare_threshold`, see [Layers](layers.md#thresholds-that-did-not-come-from-sharpening)).

## What can be read

Where a cell says "read", the tests write it in that format with the real Keras 3 or the real Keras 2 (tf_keras 2.21),
read it back, compare the answers of both to the last bit, and verify it (`tox -e unit`, `tox -e legacy`). The files of
Larq and QKeras, and of Keras 2.2 to 2.13, were written by these themselves and lie with the tests.
"""
OPERATIONS = """
## Operations of Keras 2

Keras 3 files name operations of `keras.ops`, and all of these are read; [Layers](layers.md) says which are carried.
Keras 2 files name functions of TensorFlow. These are translated, each tested against TensorFlow itself, and all others
refused by name:

| `keras.ops` | TensorFlow |
|---|---|
"""
CLOSING = """
## Binarised networks

The files of [Larq](https://github.com/larq/larq) (0.14) and of [QKeras](https://github.com/google/qkeras) (0.9) are
read without these packages. A quantised layer becomes plain layers of Keras that compute the same:

* An *input quantiser* or activation that is a sign or a step (`ste_sign`, `approx_sign`, `swish_sign`,
  `ste_heaviside`; QKeras's `binary` and one-bit `quantized_bits`) becomes a `Heaviside`. Those with more values
  (`magnitude_aware_sign`, `dorefa_quantizer`, `ste_tern`, `quantized_relu`, ...) are refused.
* A *kernel quantiser* is evaluated once, on the latent kernel in the file, and the plain layer gets the result: all
  those of Larq, and `binary`, `ternary` and `quantized_bits` of QKeras, automatic scales included.
* `pad_values=1` becomes a padding with ones.

QKeras gives `x + (q - x)` for a quantised value q, for the sake of the gradient, so its activations can miss their
values by a rounding of float32; here they are these values exactly.

## What is refused

A built-in layer that strop cannot carry is called so, with the reason and what to do instead (see
[Layers](layers.md)); so are layers that Keras 3 no longer has (`LocallyConnected2D`), and operations as TensorFlow
before 2.4 wrote them. A subclassed model does not tell how its layers are connected, so it cannot be rebuilt from
`.h5` or SavedModel. A Sequential or functional model of a class of your own, with a `train_step` for instance, does:
pass the class in `custom_objects`. Where it overrides `call`, it is refused.

Two things Keras itself cannot load again, and the message quotes it: a layer that is shared between a wrapper or a
nested model and the model around it, in `.keras` files (the `.h5` of the same model is read); and, under TensorFlow,
models whose layers have names with other letters than ASCII, which `predict` refuses.
"""


def table(rows: list[Row]) -> str:
    """Return the rows as a table; those with the same cells share one."""
    shared: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        cells = tuple(row.reasons.get(file_format, "read") for file_format in FORMATS)
        shared.setdefault(cells, []).append(row.name)
    lines = [f"| | {' | '.join(FORMATS)} |", "|---" * (len(FORMATS) + 1) + "|"]
    lines += [f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in shared.items()]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the page."""
    layers = [Row(f"`{row.name}`", row.reasons) for row in layer_rows()]
    others = "".join(table([row]).splitlines()[-1] + "\n" for row in OTHER_ROWS)
    operations = "".join(
        f"| `{name}` | {', '.join(f'`tf.{function}`' for function in functions)} |\n"
        for name, functions in counterparts().items()
    )
    return f"{OPENING}\n{table(layers)}{others}{OPERATIONS}{operations}{CLOSING}"


def main() -> int:
    """Write the page, or check that it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; compare the page")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == page():
        return 0
    print("docs/model-files.md is not what docs/render_model_files.py writes: run it again", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
