"""The paper's networks: tables as data, the game's three players made from them, and the models it is compared with."""

from alikit.models.ali import ALI as ALI
from alikit.models.ali import Discriminator as Discriminator
from alikit.models.conditional import EMBEDDING as EMBEDDING
from alikit.models.conditional import ConditionalALI as ConditionalALI
from alikit.models.gan import GAN as GAN
from alikit.models.gan import InverseMapping as InverseMapping
from alikit.models.gan import PostHoc as PostHoc
from alikit.models.generative import Generative as Generative
from alikit.models.presets import SPECS as SPECS
from alikit.models.presets import build as build
from alikit.models.table import ModelSpec as ModelSpec
from alikit.models.table import Row as Row
from alikit.models.vae import VAE as VAE
