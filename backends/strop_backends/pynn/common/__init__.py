"""What all simulators behind PyNN share: the interface `dialect`, and parts of populations and projections.

`dialect` finds a simulator's dialect by the name of its PyNN module. `connector` hands arrays of synapses to the
simulator, `synapse_lists` answers `Projection.get`, `parameters` lets thresholds and biases be read and changed, and
`waves` keeps the frames that have not entered yet.
"""
