"""Costs of a network: neurons, synapses, memory; with frames, spikes, synaptic events and energy estimates.

`strop.inspect` is here.
"""
