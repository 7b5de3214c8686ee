"""Child registries of mmengine's, scope ``subpt_dense``.

Write every type in a config with its scope (``subpt_dense.ContextPrompt``): an unprefixed name resolves in the host.
``locations`` name the host-free packages only; a host's package is imported by its own runtime config.
"""

from mmengine import registry as root

_SCOPE = "subpt_dense"

MODELS = root.Registry(
    "model",
    parent=root.MODELS,
    scope=_SCOPE,
    locations=["subpt_dense.prompts", "subpt_dense.losses", "subpt_dense.heads"],
)
HOOKS = root.Registry("hook", parent=root.HOOKS, scope=_SCOPE, locations=["subpt_dense.hooks"])
DATASETS = root.Registry("dataset", parent=root.DATASETS, scope=_SCOPE)
TRANSFORMS = root.Registry("transform", parent=root.TRANSFORMS, scope=_SCOPE)
METRICS = root.Registry("metric", parent=root.METRICS, scope=_SCOPE)
VISUALIZERS = root.Registry("visualizer", parent=root.VISUALIZERS, scope=_SCOPE)
LOOPS = root.Registry("loop", parent=root.LOOPS, scope=_SCOPE, locations=["subpt_dense.hooks"])
