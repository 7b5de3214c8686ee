"""Imported before any test module here, so that the shims are in place when one imports mmdet."""

import subpt_dense  # noqa: F401
