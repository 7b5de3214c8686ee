"""DetPro's way, SubPT + NFL: five prompts learned on cached regions, one for each IoU grade; their rows averaged."""

# Made by: python tools/train_grades.py configs/cls_lvis_regions_subpt_nfl.py
prompt = dict(type="subpt_dense.AveragedPrompt", files="work_dirs/cls_lvis_regions_subpt_nfl/prompts.json")
