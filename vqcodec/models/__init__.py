"""Networks over tensors: no files, no bytes."""
