_base_ = [
    "./_base_/segmentors/clip_toy.py",
    "./_base_/datasets/zss_toy_maps.py",
    "./_base_/schedules/zss_toy_200.py",
    "./_base_/prompts/nfl.py",
]
model = dict(prompt={{_base_.prompt}})
