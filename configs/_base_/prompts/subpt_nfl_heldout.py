"""SubPT + NFL as the official base-to-novel runs have it: the anchors ARE the novel names. Results must say so."""

_base_ = ["./subpt.py"]

prompt = dict(anchors=[dict(type="subpt_dense.TextAnchor", names="heldout", weight=1.0)])
