"""Parameters and state: modules, the paper's layer, initialisers."""

from alikit.nn.init import init_normal as init_normal
from alikit.nn.layers import BatchNormLeakyReLU as BatchNormLeakyReLU
from alikit.nn.layers import Convolution as Convolution
from alikit.nn.layers import Layer as Layer
from alikit.nn.layers import Sequential as Sequential
from alikit.nn.layers import update_statistics as update_statistics
from alikit.nn.module import Module as Module
from alikit.nn.module import Parameter as Parameter
from alikit.nn.module import Pass as Pass
