"""Kernels: arrays in, arrays out. This package answers "given these arrays, what are the numbers?".

The contract that every kernel keeps:

* Contiguous arrays: activations NHWC, weights OHWI `(C_out, kH, kW, C_in)`. A transposed convolution owns the weight
  of the convolution whose adjoint it is.
* float32, and float64 for gradient checks; statistics are accumulated in at least float32.
* No state that changes a result; no argument changed unless its name begins with `out`, but for an x that a convolution
  has left to its batch norm to fill (`deferred`); randomness only from counters in the arguments (`arrays.Counters`:
  seed, step, stream; the element's position is the fourth).
* A gradient may hold K cotangents, stacked along the batch: K * N rows where the forward pass had N. K follows from the
  shapes. Gradients of inputs hold all K, gradients of parameters are those of the first.
* A convolution of 1x1 kernels may be given `arrays.Normalised` for its input, if its twin leaves such to the reader.
* The gradient behind a dense layer's maxout may be something that only the same twin's kernels read (`deferred`).
* Errors are ValueErrors that name the function, the argument, the shape found and the shape wanted.

`cpu/` holds the NumPy kernels. A device twin lives in a folder beside it under the same names and signatures.
"""

#: Every kernel by its public name: the module that holds it is the same in every twin.
KERNELS = {
    "activation": ("apply_activation", "bias_activation_grad", "dropout", "scale_rows"),
    "adam": ("adam_step", "adam_steps", "moving_average"),
    "batch": ("gather_batch",),
    "clock": ("record_step",),
    "conv": ("conv2d", "conv2d_input_grad", "conv2d_weight_grad", "conv2d_backward"),
    "join": ("join", "join_grad"),
    "loss": ("adversarial_losses", "class_losses"),
    "norm": ("batch_norm_leaky_relu", "batch_norm_leaky_relu_grad", "update_statistics"),
    "sampling": ("gaussian_sample", "gaussian_sample_grad", "normal"),
}
