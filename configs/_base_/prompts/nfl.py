"""NFL: CoOp whose features of generic names, every evaluated name removed, stay near the hand-crafted ones."""

_base_ = "./coop.py"

prompt = dict(anchors=[dict(type="subpt_dense.TextAnchor", names="generic", weight=1.0)])
