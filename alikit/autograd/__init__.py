"""The graph: Tensors, Functions, the reverse walk and the gradient check. No mathematics of its own."""

from alikit.autograd.backward import Walk as Walk
from alikit.autograd.backward import added as added
from alikit.autograd.backward import backward as backward
from alikit.autograd.backward import grad as grad
from alikit.autograd.function import Folded as Folded
from alikit.autograd.function import Function as Function
from alikit.autograd.function import Rows as Rows
from alikit.autograd.function import is_grad_enabled as is_grad_enabled
from alikit.autograd.function import no_grad as no_grad
from alikit.autograd.gradcheck import KinkError as KinkError
from alikit.autograd.gradcheck import gradcheck as gradcheck
from alikit.autograd.rows import row_grad as row_grad
from alikit.autograd.stack import stack_grad as stack_grad
from alikit.autograd.tensor import Tensor as Tensor
