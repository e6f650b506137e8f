"""NEURON behind PyNN: the `dialect` with the rules of NEURON, its `projections`, and `surroundings` for tests."""
