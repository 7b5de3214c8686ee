_base_ = [
    "./_base_/classifiers/regions_b32.py",
    "./_base_/datasets/regions_lvis.py",
    "./_base_/schedules/regions_6e.py",
    "./_base_/prompts/nfl.py",
]
prompt = _base_.prompt
prompt.length = 8
model = dict(prompt=prompt, language=dict(templates={{_base_.templates}}, names={{_base_.names}}))
custom_hooks = [{{_base_.subspace}}]
