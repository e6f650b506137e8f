"""SavedModel folders of Keras 2: the `folder` as a whole, its tensor `bundle`, and the `protobuf` wire format.

TensorFlow reads these files, too, but the `tensorflow` that Keras 3 runs on no longer rebuilds Keras 2 models from
them, and JAX and PyTorch users need not install it.
"""
