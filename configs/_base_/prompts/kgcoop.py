"""KgCoOp: CoOp whose features of the trained names stay near the task's hand-crafted ones."""

_base_ = "./coop.py"

# The paper has one template a data set, as `language.templates` has for its eleven. Of several the mean counts.
prompt = dict(anchors=[dict(type="subpt_dense.TextAnchor", names="trained", weight=8.0, name="kg")])
