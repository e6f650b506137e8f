"""From an ordinary Keras network to one that can be sharpened: `from_relu`.

`program` lists the calls of a model, `ramps` says which bounded activation takes the place of which, `measure` runs
frames, `scales` decides how every tensor is scaled, and `rebuild` makes the new model.
"""
