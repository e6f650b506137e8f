"""Golden cases for readers of NIR: small `.nir` files, frames for them, and the spikes that are right.

pytest --pyargs strop.conformance.nir --nir-reader module:function [--nir-profile threshold]

The function belongs to the tool under test: `function(path, frames)` loads the file at `path`, runs it, and returns the
spikes of every node of neurons. `frames` maps the name of each Input node to an array, float32, shape (n, *shape),
channels first: a frame for each time step. It returns an array of zeros and ones, shape (n, *shape), by the name of
each node of neurons. Nothing takes time, so that every layer answers a frame in the step in which it enters, and no
neuron remembers a frame. Where the function has a parameter `dt`, it is given the step that LIFs are written for.

Nothing of NIR or of a simulator is imported here. The files come in the forms that `strop_backends.nir.profiles`
describes: of nodes that the tool knows, compared as the tool compares.
"""
