"""subpt_dense: words in, class rows out. Prompt learning (SubPT + NFL) for dense prediction.

Importing this package installs the small shims of :mod:`subpt_dense.compat` and imports no host framework.
"""

from subpt_dense.compat import install as _install_compat

_install_compat()

__version__ = "0.1.0"
