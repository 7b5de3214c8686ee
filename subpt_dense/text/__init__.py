"""The frozen language side: names, templates, CLIP's text tower and the encoders."""

from subpt_dense.text.cache import get_tower, load_tower
from subpt_dense.text.encoder import (
    ENCODERS,
    check_max_tokens,
    choose_encoder,
    encode_context,
    prefix_of,
    resolve_encoder,
)
from subpt_dense.text.names import check_names, clean_name, generic_names
from subpt_dense.text.shared_prefix import Prefix
from subpt_dense.text.spec import TextSpec, TowerKey
from subpt_dense.text.templates import get_templates
from subpt_dense.text.texts import encode_templates, encode_texts
from subpt_dense.text.tokens import POSITIONS, PromptTokens, check_fit, pack_names
from subpt_dense.text.tower import TextTower

__all__ = [
    "ENCODERS",
    "POSITIONS",
    "Prefix",
    "PromptTokens",
    "TextSpec",
    "TextTower",
    "TowerKey",
    "check_fit",
    "check_max_tokens",
    "check_names",
    "choose_encoder",
    "clean_name",
    "encode_context",
    "encode_templates",
    "encode_texts",
    "generic_names",
    "get_templates",
    "get_tower",
    "load_tower",
    "pack_names",
    "prefix_of",
    "resolve_encoder",
]
