"""SubPT + NFL, with the generic names."""

_base_ = ["./subpt.py"]

prompt = dict(anchors=[dict(type="subpt_dense.TextAnchor", names="generic", weight=1.0)])
