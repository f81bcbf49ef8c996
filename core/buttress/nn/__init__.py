"""Operations on any ``nn.Module``: its modes, buffers, weights and layers.

The modules of this room serve the core; the names below serve plugins too.

    AttackMode                          mode of a model while it is attacked
    evaluating                          forwards in eval mode, and back
    trainable, matrices ...             choices among the weights
    layer_names, split_groups ...       groups of layers, by patterns of parameter names
    depths                              depth of every parameter, for learning rates by depth
    tracked_norms, reestimate           batch norm's running statistics
    Normalize, normalized               normalisation of the input as part of the model
    load_weights                        weights to start from
    Scratch                             memory that every step uses again
    LastOutput                          model that keeps its last output
"""

from buttress.hookspecs import AttackMode
from buttress.nn.batchnorm import reestimate, tracked_norms
from buttress.nn.depth import depths
from buttress.nn.last_output import LastOutput
from buttress.nn.layers import Patterns, layer_groups, layer_names, split_groups
from buttress.nn.loading import load_weights
from buttress.nn.modes import evaluating
from buttress.nn.normalization import Normalize, normalized
from buttress.nn.scratch import Scratch
from buttress.nn.weights import matrices, regularised_names, trainable

__all__ = [
    "AttackMode",
    "LastOutput",
    "Normalize",
    "Patterns",
    "Scratch",
    "depths",
    "evaluating",
    "layer_groups",
    "layer_names",
    "load_weights",
    "matrices",
    "normalized",
    "reestimate",
    "regularised_names",
    "split_groups",
    "tracked_norms",
    "trainable",
]
