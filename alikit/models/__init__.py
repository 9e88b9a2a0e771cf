"""The paper's networks: tables as data, and the game's three players made from them."""

from alikit.models.ali import ALI as ALI
from alikit.models.ali import Discriminator as Discriminator
from alikit.models.presets import SPECS as SPECS
from alikit.models.presets import build as build
from alikit.models.table import ModelSpec as ModelSpec
from alikit.models.table import Row as Row
