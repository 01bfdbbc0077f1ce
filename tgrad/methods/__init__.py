"""Methods of Tensor, by kind of op. Each class is a base of `tgrad.tensor.Tensor`."""
