"""Agreement with real kernels: the same operations on a real machine and in the model, in the same terms."""
