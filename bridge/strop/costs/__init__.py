"""What a network costs: neurons, synapses, memory; with frames, spikes, synaptic events and energy estimates.

`strop.inspect` is here.
"""
